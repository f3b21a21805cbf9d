//! Objects of a database that was loaded without owners, given to the role that is to work with them. They belong to whoever
//! loaded them; an application that logs in as another role could not even read its tables.

use super::connect::literal;
use super::session::{Session, SqlResult};

/// Objects that the session's role owns: those that may change hands by themselves. Sequences of columns, row types and arrays
/// go with what they belong to, members of extensions with nobody (a partitioned table depends on its own columns, which is
/// nothing of that kind), and what the server shipped stays; so does what only a
/// superuser may own, such as event triggers and publications of all tables.
const OWNED: &str = "FROM (
    SELECT 'pg_namespace'::regclass AS class, oid, nspowner AS owner FROM pg_namespace
    UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class c WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
        OR relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a')
    UNION ALL SELECT 'pg_type'::regclass, t.oid, typowner FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
        WHERE typtype IN ('b', 'd', 'e', 'r', 'c') AND coalesce(c.relkind = 'c', true)
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
    UNION ALL SELECT 'pg_largeobject_metadata'::regclass, oid, lomowner FROM pg_largeobject_metadata
) o WHERE o.oid >= 16384 AND o.owner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
    AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'i')
        AND (d.refclassid, d.refobjid) <> (d.classid, d.objid))";

/// Gives everything that the session's role owns in its database to another role. The session is a superuser's.
///
/// # Errors
/// The server's refusal; nothing has changed hands then.
pub async fn hand_over(session: &Session, to: &str) -> SqlResult<()> {
    // Names of objects come from the server, quoted; the role's goes in as a setting, so that nothing is text of the block.
    session.run(&format!("SET backstay.owner = {}", literal(to))).await?;
    // The class of large objects is that of their metadata in the list, and another one to those who identify objects.
    session
        .run(&format!(
            "DO $hand_over$ DECLARE statement text; BEGIN FOR statement IN \
             SELECT format('ALTER %s %s OWNER TO %I', replace(i.type, 'statistics object', 'statistics'), i.identity, \
             current_setting('backstay.owner')) FROM (SELECT o.class, o.oid {OWNED}) mine, \
             pg_identify_object(CASE mine.class WHEN 'pg_largeobject_metadata'::regclass THEN 'pg_largeobject'::regclass \
             ELSE mine.class END, mine.oid, 0) i LOOP EXECUTE statement; END LOOP; END $hand_over$"
        ))
        .await
}
