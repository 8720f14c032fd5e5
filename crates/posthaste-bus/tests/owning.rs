//! Who owns the file, whatever becomes of the files beside it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::{Broker, Outcome};

use crate::processes::Process;
use crate::support::*;

fn open(path: &Path) -> Bus {
    Bus::open(&format!("bus://{}", path.display()), BusOptions::default()).expect("opened")
}

async fn accept(bus: &Bus, text: &str) {
    until(async || {
        let batch = [message("orders", None, text)];
        let said = bus.publisher().publish(&batch).await;
        said.is_ok_and(|outcomes| matches!(outcomes[..], [Outcome::Accepted(_)]))
    })
    .await;
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_names_that_file() {
    run(async {
        let folder = Folder::new();
        std::fs::create_dir(folder.file("data")).expect("created");
        symlink("data/bus.db", folder.file("link.db")).expect("linked");
        let first = open(&folder.file("link.db"));
        let second = open(&folder.file("link.db"));
        let third = open(&folder.file("data/bus.db"));
        let mut reader = subscribe(&first, "orders", "reader").await;
        for bus in [&first, &second, &third] {
            publish(bus, &[message("orders", None, "x")]).await;
        }
        assert_eq!(drain(&mut *reader, 3).await.len(), 3);
        assert!(!folder.file("link.db.lock").exists());
        symlink("circle", folder.file("circle")).expect("linked");
        let url = format!("bus://{}", folder.file("circle").display());
        let said = Bus::open(&url, BusOptions::default()).expect_err("a circle").to_string();
        assert!(said.contains("leads nowhere"), "{said}");
    });
}

#[test]
fn an_owner_whose_lock_file_was_removed_ends_and_loses_nothing() {
    run(async {
        let folder = Folder::new();
        let first = folder.open();
        let mut reader = subscribe(&first, "orders", "reader").await;
        publish(&first, &[message("orders", None, "a")]).await;
        std::fs::remove_file(folder.file("bus.db.lock")).expect("removed");
        let second = folder.open();
        accept(&second, "b").await;
        accept(&first, "c").await;
        accept(&second, "d").await;
        let mut seen = Vec::new();
        while seen.len() < 4 {
            // The first owner is away for a moment when it finds that it is not the owner.
            let Ok(deliveries) = within(reader.receive(1)).await else { continue };
            for delivery in deliveries {
                seen.push(text(&delivery));
                delivery.complete().await.expect("completed");
            }
        }
        assert_eq!(seen, ["a", "b", "c", "d"]);
        let figures = (status(&first, "reader").await, status(&second, "reader").await);
        assert_eq!(figures.0, figures.1, "one owner");
    });
}

#[test]
fn a_copy_of_a_running_bus_leaves_the_original_alone() {
    run(async {
        let folder = Folder::new();
        std::fs::create_dir(folder.file("a")).expect("created");
        let owner = open(&folder.file("a/bus.db"));
        publish(&owner, &[message("orders", None, "x")]).await;
        let copied = Command::new("cp")
            .arg("-r")
            .args([folder.file("a"), folder.file("b")])
            .status()
            .expect("cp runs");
        assert!(copied.success() || folder.file("b/bus.db.lock").exists());
        let copy = open(&folder.file("b/bus.db"));
        publish(&copy, &[message("orders", None, "y")]).await;
        let client = open(&folder.file("a/bus.db"));
        let mut reader = subscribe(&client, "orders", "reader").await;
        assert_eq!(drain(&mut *reader, 1).await, ["x"]);
        silent(&mut *reader).await;
    });
}

#[test]
fn a_card_that_names_another_socket_removes_nothing() {
    run(async {
        let folder = Folder::new();
        let other = std::os::unix::net::UnixListener::bind(folder.file("other.sock"));
        drop(other.expect("bound"));
        let socket = folder.file("other.sock").display().to_string();
        let card = format!(r#"{{"pid":1,"instance":"x","socket":"{socket}"}}"#);
        std::fs::write(folder.file("bus.db.lock"), card).expect("written");
        folder.open().close().await;
        assert!(folder.file("other.sock").exists());
    });
}

#[test]
fn a_lock_file_that_leads_elsewhere_is_not_followed() {
    let folder = Folder::new();
    let precious = folder.file("precious");
    let refused = || {
        let error = Bus::open(&folder.url(), BusOptions::default()).expect_err("not opened");
        assert_eq!(std::fs::read(&precious).expect("read"), b"precious");
        std::fs::remove_file(folder.file("bus.db.lock")).expect("removed");
        error.to_string()
    };
    std::fs::write(&precious, "precious").expect("written");
    symlink(&precious, folder.file("bus.db.lock")).expect("linked");
    assert!(refused().contains("remove it"));
    std::fs::hard_link(&precious, folder.file("bus.db.lock")).expect("linked");
    assert!(refused().contains("plain file"));
    let bus = folder.open();
    let lock = folder.file("bus.db.lock").metadata().expect("a lock file");
    assert_eq!((lock.permissions().mode() & 0o777, lock.nlink()), (0o600, 1));
    drop(bus);
}

#[test]
fn an_owner_without_its_lock_file_leaves_the_next_ones_socket() {
    run(async {
        let folder = Folder::new();
        let first = Process::start("own", &folder.url());
        std::fs::remove_file(folder.file("bus.db.lock")).expect("removed");
        let second = folder.open();
        second.status().await.expect("opened");
        first.end();
        assert!(folder.file("bus.db.sock").exists());
        let third = folder.open();
        third.status().await.expect("reached");
    });
}

#[test]
fn an_owner_that_could_not_listen_tries_again() {
    run(async {
        let folder = Folder::new();
        // A folder in the place of the socket: it is not removed, and nobody can listen there.
        std::fs::create_dir(folder.file("bus.db.sock")).expect("created");
        let owner = folder.open();
        publish(&owner, &[message("orders", None, "x")]).await;
        let client = folder.open();
        assert!(client.status().await.is_err());
        std::fs::remove_dir(folder.file("bus.db.sock")).expect("removed");
        until(async || client.status().await.is_ok()).await;
    });
}

/// Runs as nobody where this user may write anywhere: with a copy of this binary, because the
/// original may lie in a folder that only this user can enter.
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    use std::fs::{Permissions, copy, create_dir, set_permissions, write};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    const CLOSED: &str = "POSTHASTE_BUS_TEST_CLOSED";
    if let Ok(url) = std::env::var(CLOSED) {
        let error = Bus::open(&url, BusOptions::default()).expect_err("not opened").to_string();
        assert!(error.contains("closed") && error.contains("write access"), "{error}");
        return;
    }
    let folder = Folder::new();
    create_dir(folder.file("closed")).expect("created");
    for name in ["", "closed"] {
        set_permissions(folder.file(name), Permissions::from_mode(0o755)).expect("set");
    }
    set_permissions(folder.file("closed"), Permissions::from_mode(0o555)).expect("set");
    let binary = std::env::current_exe().expect("this binary");
    let mut command = Command::new(&binary);
    if write(folder.file("closed/probe"), "").is_ok() {
        std::fs::remove_file(folder.file("closed/probe")).expect("removed");
        copy(&binary, folder.file("binary")).expect("copied");
        set_permissions(folder.file("binary"), Permissions::from_mode(0o555)).expect("set");
        command = Command::new(folder.file("binary"));
        command.current_dir(folder.file("")).uid(NOBODY).gid(NOBODY);
    }
    let ended = command
        .args(["--exact", "owning::a_folder_that_cannot_be_written_is_named"])
        .env(CLOSED, format!("bus://{}", folder.file("closed/bus.db").display()))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{ended:?}");
    assert_eq!(std::fs::read_dir(folder.file("closed")).expect("read").count(), 0);
    set_permissions(folder.file("closed"), Permissions::from_mode(0o755)).expect("set");
}
