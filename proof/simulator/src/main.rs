fn main() {
    let seeds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(100);
    let sab = std::env::args().nth(2).and_then(|s| s.parse().ok());
    let first = std::env::args().nth(3).and_then(|s| s.parse().ok()).unwrap_or(0);
    let c = posthaste_simulator::Campaign { sabotage: sab, ..posthaste_simulator::Campaign::new(first, seeds) };
    let t = std::time::Instant::now();
    let sum = c.run();
    println!("{} seeds {} messages {} events {:?}", sum.seeds, sum.messages, sum.events, t.elapsed());
    println!("missing {:?} differed {:?}", sum.markers.missing(), sum.differed);
    if let Some((seed, v)) = sum.failed {
        println!("seed {seed}: {v}");
        let (sc, v) = posthaste_simulator::shrink(posthaste_simulator::Scenario::new(seed, None), sab).unwrap();
        println!("{:?} {:?} {:?}", sc.incidents, sc.transactions, sc.rates);
        println!("{:?} {:?} relays {} members {}", sc.settings, sc.personality, sc.relays, sc.members);
        for n in v.notes { println!("{n}"); }
        println!("{:?}", v.violation);
    }
}
