//! `migrate`, and what the others say of a schema that is not there, not ours, or no schema.

use serde_json::{Value, json};

use crate::place::{Place, finish, is_there};

#[test]
fn migrate_creates_says_so_and_changes_nothing_again() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let first = place.run(["migrate", "--json"]).with(0).json();
    assert_eq!((&first["from"], &first["changed"]), (&Value::Null, &json!(true)), "{first}");
    let again = place.run(["migrate", "--json"]).with(0).json();
    assert_eq!((&again["from"], &again["changed"]), (&first["to"], &json!(false)), "{again}");
    let told = place.run(["migrate"]).with(0);
    assert!(told.out.contains("nothing was changed"), "{told:?}");
}

#[test]
fn the_statements_can_be_printed_and_make_a_database_that_works() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    let printed = place.run(["migrate", "--print-sql"]).with(0);
    assert!(printed.out.contains("posthaste_outbox"), "{printed:?}");
    assert!(!is_there(&place.path("app.db")), "printing has made a file");
    place.sql().execute_batch(&printed.out).unwrap();
    place.run(["publish", "orders", "order.placed", "x"]).with(0);
}

#[test]
fn no_command_but_migrate_makes_the_file_or_the_tables() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    for arguments in [
        ["status"].as_slice(),
        &["outbox", "list"],
        &["dead", "list"],
        &["publish", "orders", "order.placed", "x"],
    ] {
        let ended = place.run(arguments.iter().copied()).with(1);
        assert!(ended.err.contains("posthaste migrate"), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "one sentence: {ended:?}");
        assert!(!is_there(&place.path("app.db")), "{arguments:?}");
    }
    place.sql().execute_batch("create table mine (id integer)").unwrap();
    let ended = place.run(["status"]).with(1);
    assert!(ended.err.contains("posthaste migrate"), "{ended:?}");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let place = Place::ready();
    place.sql().execute("insert into posthaste_schema (version) values (99)", []).unwrap();
    for arguments in [["status"].as_slice(), &["migrate"], &["run"]] {
        let ended = place.run(arguments.iter().copied()).with(1);
        assert!(ended.err.contains("99"), "{ended:?}");
        assert!(ended.err.contains("newer"), "{ended:?}");
    }
}

#[test]
fn a_file_that_is_no_database_is_recognised() {
    let place = Place::new();
    place.write("posthaste.toml", &place.settings());
    place.write("app.db", &"this is a letter, not a database\n".repeat(200));
    for arguments in [["status"].as_slice(), &["migrate"]] {
        let ended = place.run(arguments.iter().copied()).with(1);
        assert!(ended.err.contains("not a SQLite database"), "{ended:?}");
    }
}

/// Runs as nobody where this user may write anywhere: with a copy of the binary, because the
/// original may lie in a folder that only this user can enter.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    use std::fs::{Permissions, copy, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let place = Place::new();
    let folder = place.path("closed");
    create_dir(&folder).unwrap();
    for name in ["", "closed"] {
        set_permissions(place.path(name), Permissions::from_mode(0o555)).unwrap();
    }
    let url = format!("sqlite://{}", folder.join("app.db").display());
    let mut command = place.command(["migrate", "--database", &url]);
    if write(folder.join("probe"), "").is_ok() {
        let binary = place.path("posthaste");
        copy(env!("CARGO_BIN_EXE_posthaste"), &binary).unwrap();
        set_permissions(&binary, Permissions::from_mode(0o555)).unwrap();
        command = std::process::Command::new(binary);
        command.args(["migrate", "--database", &url]).current_dir(place.path(""));
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended = finish(command, b"").with(1);
    assert!(ended.err.contains("closed"), "{ended:?}");
    set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
    set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_missing_folder_is_named() {
    let place = Place::new();
    let url = format!("sqlite://{}", place.path("no/such/app.db").display());
    let ended = place.run(["migrate", "--database", &url]).with(1);
    assert!(ended.err.contains("no/such"), "{ended:?}");
}
