//! `init`.

use std::fs;

use crate::place::Place;

#[test]
fn it_writes_settings_that_check_out_and_says_what_is_next() {
    let place = Place::new();
    let ended = place.run(["init"]).with(0);
    assert_eq!(ended.out.trim(), "posthaste.toml");
    assert!(ended.err.contains("posthaste migrate"), "{ended:?}");
    place.run(["check"]).with(0);
    place.run(["migrate"]).with(0);
    place.run(["status"]).with(0);
}

#[test]
fn it_never_overwrites() {
    let place = Place::new();
    place.write("posthaste.toml", "# mine\n");
    let ended = place.run(["init"]).with(1);
    assert!(ended.err.contains("is there already"), "{ended:?}");
    assert_eq!(fs::read_to_string(place.path("posthaste.toml")).unwrap(), "# mine\n");
}

#[test]
fn it_takes_urls_and_another_name() {
    let place = Place::new();
    let (database, bus) = (place.database_url(), place.bus_url());
    let arguments =
        ["init", "--json", "--config", "p.toml", "--database", &database, "--broker", &bus];
    assert_eq!(place.run(arguments).with(0).json()["created"], "p.toml");
    let checked = place.run(["check", "--config", "p.toml"]).with(0);
    assert!(checked.out.contains(&database) && checked.out.contains(&bus), "{checked:?}");
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.run(["init"]).with(0);
    let mode = fs::metadata(place.path("posthaste.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
