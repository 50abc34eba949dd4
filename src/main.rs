fn main() {
    let want = std::env::args().nth(1).unwrap_or_default();
    for s in spilman::scenario::all() {
        if !s.name().starts_with(&want) {
            continue;
        }
        let t = std::time::Instant::now();
        match s.run(Default::default()) {
            Ok(tr) => {
                println!("ok {} {:?}", s.name(), t.elapsed());
                if want == s.name() {
                    println!("{}", spilman::transcript::timeline(&tr));
                }
            }
            Err(e) => println!("FAIL {}\n{}", e, spilman::transcript::timeline(e.transcript())),
        }
    }
}
