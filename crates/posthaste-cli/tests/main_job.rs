//! The main job on real input: a script that knows nothing but SQLite writes orders, `run` relays
//! them, `subscribe` prints them, and each of the three is killed and started again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::place::{Lines, Place, Running, eventually, skip};

const ORDERS: usize = 300;
const KILLS: usize = 6;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python/orders.py")
}

fn python_is_there() -> bool {
    let check = ["-c", "import sqlite3, sys; sys.exit(sqlite3.sqlite_version_info < (3, 31))"];
    let mut command = Command::new("python3");
    command.args(check).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The three processes; one that is killed is started again at once.
struct Shop {
    place: Place,
    printed: Lines,
    writer: Option<Running>,
    relay: Option<Running>,
    reader: Option<Running>,
}

impl Shop {
    fn open() -> Self {
        let place = Place::ready();
        let printed = Lines::default();
        let mut shop = Self { place, printed, writer: None, relay: None, reader: None };
        shop.start_writer();
        shop.start_relay();
        shop.start_reader();
        shop
    }

    fn start_writer(&mut self) {
        let mut command = Command::new("python3");
        command.arg(script()).arg(self.place.path("app.db")).arg(ORDERS.to_string());
        self.writer = Some(Running::start(command));
    }

    fn start_relay(&mut self) {
        // A short lease, so that the next relay need not wait long for that of a killed one.
        let arguments = ["run", "--set", "relay.lease_ttl=1s"];
        self.relay = Some(self.place.start(arguments));
    }

    fn start_reader(&mut self) {
        let command = self.place.command(["subscribe", "orders", "--json"]);
        self.reader = Some(Running::start_into(command, &self.printed));
    }

    fn kill_one(&mut self, turn: usize) {
        let slot = match turn % 3 {
            0 => &mut self.writer,
            1 => &mut self.relay,
            _ => &mut self.reader,
        };
        slot.take().into_iter().for_each(Running::kill);
        match turn % 3 {
            0 => self.start_writer(),
            1 => self.start_relay(),
            _ => self.start_reader(),
        }
    }

    fn committed(&self) -> usize {
        let count = "select count(*) from orders";
        self.place.sql().query_row(count, [], |row| row.get(0)).unwrap_or(0)
    }

    /// Each printed order, in the order of their first lines: customer and number.
    fn orders(&self) -> Vec<(String, u64)> {
        let mut seen = Vec::new();
        for line in self.printed.all() {
            let message: Value = serde_json::from_str(&line).unwrap();
            let payload = message["payload"].as_str().unwrap();
            let order: Value = serde_json::from_str(payload).unwrap();
            assert_eq!(message["key"], order["customer"], "{line}");
            let number = order["id"].as_u64().unwrap();
            let one = (order["customer"].as_str().unwrap().to_owned(), number);
            if !seen.contains(&one) {
                seen.push(one);
            }
        }
        seen
    }
}

#[test]
fn every_order_is_printed_in_order_although_everything_is_killed() {
    if !python_is_there() {
        skip("there is no python3 with SQLite 3.31");
        return;
    }
    let mut shop = Shop::open();
    for turn in 0..3 * KILLS {
        // Something new has happened between two kills, unless all is done.
        let before = (shop.committed(), shop.printed.all().len());
        eventually("something happens", || {
            let (committed, printed) = (shop.committed(), shop.printed.all().len());
            let all = committed >= ORDERS && shop.orders().len() >= ORDERS;
            ((committed, printed) != before || all).then_some(())
        });
        shop.kill_one(turn);
    }
    let writer = shop.writer.as_mut().map(Running::wait);
    assert_eq!(writer, Some(0));
    assert_eq!(shop.committed(), ORDERS);
    eventually("every order is printed", || (shop.orders().len() >= ORDERS).then_some(()));
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let orders = shop.orders();
    for (customer, number) in &orders {
        let before = last.insert(customer.clone(), *number);
        assert!(before.is_none_or(|before| before < *number), "{customer}: {before:?}, {number}");
    }
    let mut numbers: Vec<u64> = orders.into_iter().map(|(_, number)| number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=u64::try_from(ORDERS).unwrap()).collect::<Vec<_>>());
    assert_eq!(shop.relay.take().map(Running::stop), Some(0));
    assert_eq!(shop.reader.take().map(Running::stop), Some(0));
}
