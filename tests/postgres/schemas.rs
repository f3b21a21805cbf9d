//! All tables of a schema, in their place.

use crate::tables::{ALL, databases, rows, shop};

#[test]
fn a_schema_is_replaced_in_place_with_all_its_tables_and_nothing_of_another() {
    let (c, w) = shop("");
    let (good, of_public) = (rows(&c, ALL), rows(&c, &ALL[..6]));
    let before = databases(&c);
    c.psql(
        "erp",
        "SET session_replication_role = replica; UPDATE customers SET name = 'damaged'; UPDATE orders SET total = 0; \
                   DELETE FROM lines; INSERT INTO told VALUES ('x'); DELETE FROM log; \
                   UPDATE \"Ödd \"\"s\"\"\".\"Tä.ble $1\" SET \"select\" = 'x'",
    );
    let damaged = || c.psql("erp", "SELECT count(*) FROM \"Ödd \"\"s\"\"\".\"Tä.ble $1\" WHERE \"select\" = 'x'");
    let says = ["table public.customers", "table public.log_2", "2,000 rows", "kept as schema backstay_before_"];
    w.run(&["restore", "--schema", "public", "--yes"]).code(0).says(&says);
    assert_eq!(rows(&c, &ALL[..6]), of_public);
    assert_eq!(damaged(), "3");
    w.run(&["restore", "--schema", "Ödd \"s\"", "--yes"]).code(0);
    assert_eq!(rows(&c, ALL), good);
    assert_eq!(databases(&c), before);
}
