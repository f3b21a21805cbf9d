//! What belongs to a database as a whole and is not in its dump: owner, grants, settings, comment, limits.
//!
//! A rename leaves all of it with the old database, so the swap sets it again.

use super::connect::{ident, literal};
use super::session::{Session, SqlError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Settings whose value is a list of quoted names; a single literal would be one odd name. (`GUC_LIST_QUOTE` in
/// `guc_tables.c`.)
const LISTS: &[&str] = &[
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// A privilege on the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// Role, or nothing for PUBLIC.
    pub role: Option<String>,
    /// `CONNECT`, `CREATE`, `TEMPORARY`.
    pub privilege: String,
    /// With grant option.
    pub grantable: bool,
}

/// A setting of the database, or of one role in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Setting {
    /// Role, or nothing for all.
    pub role: Option<String>,
    /// Name.
    pub name: String,
    /// Value, as the catalog has it.
    pub value: String,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// Role that owns the database.
    pub owner: String,
    /// Grants; nothing when they are the default.
    pub grants: Option<Vec<Grant>>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<Setting>,
    /// Comment.
    pub comment: Option<String>,
    /// `CONNECTION LIMIT`, -1 for none.
    pub connection_limit: Option<i64>,
    /// Tablespace, `pg_default` mostly.
    pub tablespace: Option<String>,
}

impl Attributes {
    /// Reads them.
    ///
    /// # Errors
    /// The server's refusal; no row when there is no such database.
    pub async fn read(session: &Session, database: &str) -> Result<Self, SqlError> {
        let name = literal(database);
        let row = session
            .row(
                "pg_get_userbyid(d.datdba), d.datacl IS NULL, shobj_description(d.oid, 'pg_database'), d.datconnlimit, t.spcname",
                &format!("FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = {name}"),
            )
            .await?;
        let grants = session
            .rows(
                "CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable",
                &format!("FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = {name}"),
            )
            .await?;
        let settings = session
            .rows(
                "CASE s.setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)",
                &format!(
                    "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c WHERE d.datname = {name}"
                ),
            )
            .await?;
        let mut grants: Vec<Grant> =
            grants.iter().map(|r| Grant { role: r.option(0), privilege: r.text(1), grantable: r.truth(2) }).collect();
        grants.sort();
        let mut settings: Vec<Setting> =
            settings.iter().map(|r| Setting { role: r.option(0), name: r.text(1), value: r.text(2) }).collect();
        settings.sort();
        Ok(Attributes {
            owner: row.text(0),
            grants: (!row.truth(1)).then_some(grants),
            settings,
            comment: row.option(2),
            connection_limit: row.integer(3),
            tablespace: row.option(4),
        })
    }

    /// Statements that give them to a fresh database. What speaks of a role that is not there is left out and told.
    pub fn statements(&self, database: &str, roles: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
        let (mut sql, mut left_out) = (Vec::new(), Vec::new());
        let database = ident(database);
        let mut has = |role: &str, what: &str| {
            let there = roles.contains(role);
            if !there {
                left_out.push(format!("{what}: there is no role {role}"));
            }
            there
        };
        if !self.owner.is_empty() && has(&self.owner, "owner") {
            sql.push(format!("ALTER DATABASE {database} OWNER TO {}", ident(&self.owner)));
        }
        if let Some(grants) = &self.grants {
            sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            if roles.contains(&self.owner) {
                sql.push(format!("REVOKE ALL ON DATABASE {database} FROM {}", ident(&self.owner)));
            }
            for grant in grants {
                let to = match &grant.role {
                    None => "PUBLIC".to_owned(),
                    Some(role) if has(role, &format!("{} on the database", grant.privilege)) => ident(role),
                    Some(_) => continue,
                };
                let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
                // The privilege is a word of the catalog's own, never a name from outside.
                sql.push(format!("GRANT {} ON DATABASE {database} TO {to}{option}", grant.privilege));
            }
        }
        for setting in &self.settings {
            let value = setting_value(&setting.name, &setting.value);
            let name = setting.name.split('.').map(ident).collect::<Vec<_>>().join(".");
            match &setting.role {
                None => sql.push(format!("ALTER DATABASE {database} SET {name} TO {value}")),
                Some(role) if has(role, &format!("setting {}", setting.name)) => {
                    sql.push(format!("ALTER ROLE {} IN DATABASE {database} SET {name} TO {value}", ident(role)));
                }
                Some(_) => {}
            }
        }
        if let Some(comment) = &self.comment {
            sql.push(format!("COMMENT ON DATABASE {database} IS {}", literal(comment)));
        }
        if let Some(limit) = self.connection_limit.filter(|l| *l >= 0) {
            sql.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {limit}"));
        }
        (sql, left_out)
    }

    /// The same without what the connecting role may not set: an owner as which it may not act, and settings of other
    /// roles; and what that is.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn within_reach(mut self, admin: &Session) -> Result<(Self, Vec<String>), SqlError> {
        let mut beyond = Vec::new();
        let may = admin.row("rolsuper, rolcreaterole, rolname", "FROM pg_roles WHERE rolname = current_user").await?;
        if may.truth(0) {
            return Ok((self, beyond));
        }
        // From 16 on a role may be a member of one that it may not act as.
        let how = "CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END";
        let owner = format!("FROM pg_roles WHERE rolname = {} AND pg_has_role(oid, {how})", literal(&self.owner));
        if !self.owner.is_empty() && !admin.any(&owner).await? {
            beyond.push(format!("owner: role {} may not give it to {}", may.text(2), self.owner));
            self.owner.clear();
        }
        self.settings.retain(|setting| {
            let other = setting.role.as_ref().filter(|role| **role != may.text(2) && !may.truth(1));
            beyond.extend(other.map(|role| format!("setting {}: it is of role {role}", setting.name)));
            other.is_none()
        });
        Ok((self, beyond))
    }

    /// What a database has now and the backup has otherwise. Dumps of somebody else's, which do not tell all of it,
    /// differ in nothing.
    pub fn differences(&self, now: &Attributes) -> Vec<String> {
        let mut out = Vec::new();
        if self.tablespace.is_none() {
            return out;
        }
        if self.owner != now.owner {
            out.push(format!("owner {}, which was {}", now.owner, self.owner));
        }
        let others = [
            (self.grants != now.grants, "grants on the database"),
            (self.settings != now.settings, "settings"),
            (self.comment != now.comment, "comment"),
            (self.connection_limit != now.connection_limit, "connection limit"),
        ];
        out.extend(others.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what.to_owned()));
        out
    }
}

/// A value in `SET name TO …`.
fn setting_value(name: &str, value: &str) -> String {
    if !LISTS.contains(&name) {
        return literal(value);
    }
    let mut elements = Vec::new();
    let mut current = String::new();
    let mut quoted = false;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                current.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => elements.push(std::mem::take(&mut current)),
            c if c.is_whitespace() && !quoted => {}
            c => current.push(c),
        }
    }
    elements.push(current);
    elements.iter().map(|e| literal(e)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stay_lists_and_texts_stay_texts() {
        assert_eq!(setting_value("search_path", "\"$user\", public, \"a \"\"b\""), "'$user', 'public', 'a \"b'");
        assert_eq!(setting_value("application_name", "a, b's"), "'a, b''s'");
    }

    #[test]
    fn what_speaks_of_a_missing_role_is_left_out_and_told() {
        let attributes = Attributes {
            owner: "app".into(),
            grants: Some(vec![
                Grant { role: None, privilege: "CONNECT".into(), grantable: false },
                Grant { role: Some("gone".into()), privilege: "CREATE".into(), grantable: true },
            ]),
            settings: vec![Setting { role: Some("gone".into()), name: "work_mem".into(), value: "1MB".into() }],
            ..Attributes::default()
        };
        let (sql, left_out) = attributes.statements("x", &BTreeSet::from(["app".to_owned()]));
        assert!(sql.iter().all(|s| !s.contains("gone")), "{sql:?}");
        assert!(sql.contains(&"GRANT CONNECT ON DATABASE \"x\" TO PUBLIC".to_owned()), "{sql:?}");
        assert_eq!(left_out.len(), 2, "{left_out:?}");
    }

    #[test]
    fn what_a_live_database_has_otherwise_than_the_backup_is_told_as_far_as_the_backup_knows() {
        let backup = Attributes { owner: "app".into(), tablespace: Some("pg_default".into()), ..Attributes::default() };
        assert!(backup.differences(&backup).is_empty());
        let live = Attributes { owner: "boss".into(), comment: Some("x".into()), ..backup.clone() };
        assert_eq!(backup.differences(&live), ["owner boss, which was app", "comment"]);
        let foreign = Attributes { tablespace: None, ..backup };
        assert!(foreign.differences(&live).is_empty());
    }
}
