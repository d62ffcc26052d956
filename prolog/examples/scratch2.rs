#![allow(missing_docs, clippy::all)]
use scryer_prolog::*;
fn main() {
    let out = OutputStreamConfig::callback(Box::new(move |c| {
        let req = std::mem::take(c.get_mut());
        c.set_position(0);
        eprint!("{}", String::from_utf8_lossy(&req));
    }));
    let mut m = MachineBuilder::default()
        .with_streams(StreamConfig::default().with_user_output(out))
        .build();
    for f in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        let text =
            std::fs::read_to_string(format!("lib/{f}.pl")).unwrap().replace("@KEY@", "abcdef");
        m.load_module_string(&f, text);
        eprintln!("loaded {f} {:?}", t.elapsed());
    }
    let r: Vec<_> = m.run_query("true.").collect();
    eprintln!("{r:?}");
}
