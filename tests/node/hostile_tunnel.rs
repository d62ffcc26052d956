//! Peers of a tunnel that do not keep to what nodes have agreed on: they speak in others' names, to whom
//! they should not, and of all there is too much. Each is cut where it is wrong, and counted; nobody else
//! notices.

use crate::random::Random;
use crate::tunnels::{Hosts, TO, heard, hosts, silent};
use crate::world::wait_for;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};
use synod_bridge::{Bridge, Config, Identity, Multiaddr, PeerId, Stream};
use synod_udp_shim::tunnel::{
    Carried, FrameWriter, Head, MAX_FRAME_BYTES, MAX_FRAME_DATAGRAMS, MAX_STAND_INS_PER_PEER,
    virtual_address,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const STREAM: &str = "synod/tunnel/1";

/// A peer with a connection to the node of host 1, and that speaks as it likes.
struct Attacker {
    runtime: Runtime,
    bridge: Bridge,
    target: PeerId,
    address: Ipv4Addr,
    _folder: tempfile::TempDir,
}

impl Attacker {
    /// It is on host 0, as one that has a node there may be.
    fn new(hosts: &Hosts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate();
        let address = virtual_address(&identity.id().to_bytes());
        let (runtime, bridge, target) = hosts.sites.on(0, || {
            // Its threads are on the host that this one is on.
            let runtime = Runtime::new().unwrap();
            let inside = runtime.enter();
            let mut config = Config::new(identity, folder.path().into());
            config.mdns = false;
            let (bridge, mut events) = synod_bridge::start(config).unwrap();
            runtime.spawn(async move { while events.recv().await.is_some() {} });
            let to: Multiaddr = hosts.sites.address(1).parse().unwrap();
            let target = runtime.block_on(bridge.connect(to)).unwrap();
            drop(inside);
            (runtime, bridge, target)
        });
        Self { runtime, bridge, target, address, _folder: folder }
    }

    fn head(&self, boot: u64, sequence: u64) -> Head<'static> {
        Head { capturer: self.address, boot, tunnel: "t", sequence }
    }

    /// A frame of its own with one datagram.
    fn frame(&self, sequence: u64, source: &str, to: &str, text: &str) -> Vec<u8> {
        let head = self.head(1, sequence);
        let (source, to) = (source.parse().unwrap(), to.parse().unwrap());
        frame(&head, &[Carried { source, to, bytes: text.as_bytes() }])
    }

    fn open(&self) -> Stream {
        self.runtime.block_on(self.bridge.open(self.target, STREAM)).unwrap()
    }

    /// Opens a stream as one of the tunnel.
    fn greet(&self) -> Stream {
        let mut stream = self.open();
        self.write(&mut stream, &counted(&frame(&self.head(1, 0), &[])));
        stream
    }

    /// Writes, as long as the other side reads.
    fn write(&self, stream: &mut Stream, bytes: &[u8]) -> bool {
        self.runtime.block_on(async {
            stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
        })
    }

    /// Whether the other side ends the stream.
    fn is_ended(&self, stream: &mut Stream) -> bool {
        let read = async { stream.read(&mut [0]).await };
        let patient = async { tokio::time::timeout(Duration::from_secs(20), read).await };
        self.runtime.block_on(patient).is_ok_and(|read| read.map_or(true, |len| len == 0))
    }
}

fn frame(head: &Head<'_>, datagrams: &[Carried<'_>]) -> Vec<u8> {
    let mut writer = FrameWriter::new(head);
    datagrams.iter().for_each(|one| writer.push(one));
    writer.into_vec()
}

/// A frame behind its length, as a stream has it.
fn counted(frame: &[u8]) -> Vec<u8> {
    [&u32::try_from(frame.len()).unwrap().to_be_bytes(), frame].concat()
}

fn drops(hosts: &Hosts, reason: &str) -> u64 {
    hosts.tunnel(1)["drops"][reason].as_u64().unwrap_or_default()
}

/// What an honest source on host 0 sends is heard on host 1, and answered.
fn check_goes_on(hosts: &Hosts, private: &UdpSocket, member: &UdpSocket, text: &str) {
    private.send_to(text.as_bytes(), TO).unwrap();
    let (bytes, source) = heard(member);
    assert_eq!(String::from_utf8_lossy(&bytes), text);
    let answering = hosts.socket(1, "0.0.0.0:0");
    answering.send_to(b"answer", source).unwrap();
    assert_eq!(heard(private).0, b"answer");
}

#[test]
fn who_lies_about_sources_and_destinations_is_not_believed() {
    let test = "hostile_tunnel::who_lies_about_sources_and_destinations_is_not_believed";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    // Somebody here who never sent to the group, on an address of each kind; and one who did.
    let bystanders =
        ["127.0.0.1:7000", "10.78.1.2:7000", "172.21.0.2:7001"].map(|at| hosts.socket(1, at));
    let captured = hosts.socket(1, "10.78.1.2:7002");
    captured.send_to(b"to the group", TO).unwrap();
    assert_eq!(heard(&member).0, b"to the group");
    let attacker = Attacker::new(&hosts);
    let mut stream = attacker.greet();
    let own = format!("{}:9", attacker.address);
    let mut sequence = 0;
    let mut send = |source: &str, to: &str, text: &str| {
        sequence += 1;
        let frame = attacker.frame(sequence, source, to, text);
        assert!(attacker.write(&mut stream, &counted(&frame)), "{source} to {to}");
    };
    // Sources that are no host's, every host's, or another node's.
    let honest = hosts.tunnel(1)["peers"][0]["address"].as_str().unwrap().to_owned();
    let me = hosts.tunnel(1)["address"].as_str().unwrap().to_owned();
    let false_sources = [
        "0.0.0.0:5",
        "0.1.2.3:5",
        "127.0.0.1:5",
        "239.0.0.2:5",
        "224.0.0.1:5",
        "255.255.255.255:5",
        "192.0.2.1:0",
        &format!("{honest}:5"),
        &format!("{me}:5"),
    ];
    for source in false_sources {
        send(source, "239.0.0.2:20005", "of a false source");
    }
    wait_for("false sources", || drops(&hosts, "source") == false_sources.len() as u64);
    // Other groups and ports.
    let other_groups =
        ["239.0.0.3:20005", "239.0.0.2:20007", "239.0.0.2:47083", "224.0.0.251:5353"];
    for to in other_groups {
        send(&own, to, "to another group");
    }
    wait_for("other groups", || drops(&hosts, "not_carried") == other_groups.len() as u64);
    // Hosts, which it would reach by this one: whoever has sent nothing is sent nothing.
    let others = [
        "127.0.0.1:7000",
        "10.78.1.2:7000",
        "172.21.0.2:7001",
        "10.78.1.1:53",
        "10.78.0.2:4001",
        "255.255.255.255:7000",
        "10.78.1.255:7000",
        "0.0.0.0:7000",
        "10.78.1.2:7003",
        &format!("{me}:7000"),
        &format!("{honest}:7000"),
    ];
    for to in others {
        send(&own, to, "reflected");
    }
    wait_for("those who sent nothing", || drops(&hosts, "unknown_source") == others.len() as u64);
    // One who was captured is answered, by whoever has a stand-in.
    send(&own, "10.78.1.2:7002", "an answer");
    let (bytes, from) = heard(&captured);
    assert_eq!(
        (&bytes[..], from.ip().to_string()),
        (&b"an answer"[..], attacker.address.to_string())
    );
    assert!(bystanders.iter().all(silent) && silent(&member));

    // In another's name, though the stream is its own; and of another tunnel.
    for capturer in [honest.parse().unwrap(), me.parse().unwrap(), Ipv4Addr::LOCALHOST] {
        let head = Head { capturer, ..attacker.head(1, 900) };
        let to = Carried { source: SocketAddrV4::new(capturer, 5), to: TO, bytes: b"forged" };
        let before = drops(&hosts, "forged");
        assert!(attacker.write(&mut stream, &counted(&frame(&head, &[to]))));
        wait_for("what is forged", || drops(&hosts, "forged") == before + 1);
    }
    let other = Head { tunnel: "u", ..attacker.head(1, 901) };
    attacker.write(&mut stream, &counted(&frame(&other, &[])));
    assert!(attacker.is_ended(&mut stream));
    assert!(silent(&member));
    check_goes_on(&hosts, &hosts.socket(0, "0.0.0.0:0"), &member, "honest");
}

#[test]
fn replays_and_jumps_in_numbers_hurt_nobody_else() {
    let test = "hostile_tunnel::replays_and_jumps_in_numbers_hurt_nobody_else";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    check_goes_on(&hosts, &private, &member, "before");
    let attacker = Attacker::new(&hosts);
    let mut stream = attacker.greet();
    let own = format!("{}:9", attacker.address);
    let once = counted(&attacker.frame(7, &own, "239.0.0.2:20005", "once"));
    for _ in 0..50 {
        attacker.write(&mut stream, &once);
    }
    // By another of its streams, too.
    let mut another = attacker.greet();
    attacker.write(&mut another, &once);
    wait_for("doubles", || drops(&hosts, "duplicate") == 50);
    assert_eq!(heard(&member).0, b"once");
    assert!(silent(&member));
    // It has no numbers left then; it may begin anew with a later start, until that is the last one.
    let source = own.parse().unwrap();
    let jump = |boot, sequence, text: &'static [u8]| {
        counted(&frame(&attacker.head(boot, sequence), &[Carried { source, to: TO, bytes: text }]))
    };
    for (boot, sequence, text) in [
        (1, u64::MAX - 1, &b"the last number"[..]),
        (u64::MAX, 0, b"the last start"),
        (u64::MAX, u64::MAX - 1, b"the last of all"),
    ] {
        attacker.write(&mut stream, &jump(boot, sequence, text));
        assert_eq!(heard(&member).0, text);
    }
    for (boot, sequence) in [(1, 8), (u64::MAX, 5), (u64::MAX - 1, u64::MAX - 1)] {
        attacker.write(&mut stream, &jump(boot, sequence, b"from the past"));
    }
    wait_for("what is of the past", || drops(&hosts, "stale") == 3);
    // A number that no further one follows is none.
    attacker.write(&mut stream, &jump(u64::MAX, u64::MAX, b"no number"));
    assert!(attacker.is_ended(&mut stream));
    assert!(silent(&member));
    for round in 0..3 {
        check_goes_on(&hosts, &private, &member, &format!("honest {round}"));
    }
}

#[test]
fn what_is_no_frame_ends_a_stream_and_nothing_else() {
    let test = "hostile_tunnel::what_is_no_frame_ends_a_stream_and_nothing_else";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    let attacker = Attacker::new(&hosts);
    let whole = attacker.frame(1, "10.0.0.1:5", "239.0.0.2:20005", "whole");
    let head = attacker.head(1, 0);
    let tiny = Carried { source: "10.0.0.1:5".parse().unwrap(), to: TO, bytes: b"" };
    let mut random = Random::new(3);
    let long = |len: usize| u32::try_from(len).unwrap().to_be_bytes().to_vec();
    let mut wrong = vec![
        long(MAX_FRAME_BYTES + 1),
        vec![0xff; 4],
        counted(&[]),
        counted(&[0x9f]),
        counted(&whole[..whole.len() - 1]),
        counted(&[&whole[..], &[0]].concat()),
        counted(&[&whole[..], &whole].concat()),
        counted(&vec![0x85; MAX_FRAME_BYTES]),
        counted(&frame(&head, &vec![tiny; MAX_FRAME_DATAGRAMS + 1])),
        // A datagram that says to be longer than there are bytes, and than any is.
        counted(
            &[
                &frame(&head, &[]),
                &[0x83, 0x46, 10, 0, 0, 1, 0, 5][..],
                &[0x46, 239, 0, 0, 2, 78, 37],
                &[0x5a, 0xff, 0xff, 0xff, 0xff],
            ]
            .concat(),
        ),
        counted(&frame(&Head { tunnel: &"t".repeat(65), ..head.clone() }, &[])),
    ];
    for _ in 0..20 {
        let mut flipped = whole.clone();
        // Within the head: further on it may be another datagram, as good as any.
        let at = random.below(2) as usize;
        flipped[at] ^= 1 << random.below(8);
        wrong.push(counted(&flipped));
        wrong.push(counted(
            &(0..random.below(99)).map(|_| random.next() as u8).collect::<Vec<u8>>(),
        ));
    }
    for (n, bytes) in wrong.iter().enumerate() {
        // As the first of a stream, and as a later one.
        for mut stream in [attacker.open(), attacker.greet()] {
            attacker.write(&mut stream, bytes);
            assert!(attacker.is_ended(&mut stream), "{n}: {:?}", &bytes[..bytes.len().min(60)]);
        }
    }
    assert!(drops(&hosts, "malformed") > 0);
    assert!(silent(&member));
    // One that says nothing, or does not come to an end, is waited for no longer than it takes others.
    let mut silent_one = attacker.open();
    let mut endless = attacker.open();
    attacker.write(&mut endless, &long(MAX_FRAME_BYTES));
    let since = Instant::now();
    let mut goes_on = true;
    while goes_on && since.elapsed() < Duration::from_secs(30) {
        goes_on = attacker.write(&mut endless, &[0x85]);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!goes_on, "a greeting may be endless");
    assert!(attacker.is_ended(&mut silent_one));
    check_goes_on(&hosts, &private, &member, "honest");
}

#[test]
fn who_opens_streams_without_end_has_a_bounded_number() {
    let test = "hostile_tunnel::who_opens_streams_without_end_has_a_bounded_number";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    let attacker = Attacker::new(&hosts);
    let pid = hosts.node(1).pid();
    let before = crate::hazards::resident(pid);
    let mut kept = Vec::new();
    let mut refused = 0;
    let greeting = counted(&frame(&attacker.head(1, 0), &[]));
    for _ in 0..2000 {
        match attacker.runtime.block_on(attacker.bridge.open(attacker.target, STREAM)) {
            Ok(mut stream) => {
                attacker.write(&mut stream, &greeting);
                // It begins a frame of the largest size, and never ends it.
                attacker.write(&mut stream, &[0, 1, 0, 0, 0x85]);
                kept.push(stream);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(kept.len() <= 64 * 4 && refused > 1000, "{} kept, {refused} refused", kept.len());
    let after = crate::hazards::resident(pid);
    assert!(after < before + (100 << 20), "{before} bytes, then {after}");
    check_goes_on(&hosts, &private, &member, "honest");
}

#[test]
fn one_that_takes_all_stand_ins_takes_its_own_share() {
    let test = "hostile_tunnel::one_that_takes_all_stand_ins_takes_its_own_share";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    check_goes_on(&hosts, &private, &member, "before");
    // Each has no more than its share, and together they would have all there are.
    let attackers: Vec<Attacker> = (0..6).map(|_| Attacker::new(&hosts)).collect();
    let mut kept = Vec::new();
    for attacker in &attackers {
        let mut stream = attacker.greet();
        let sources = (0..1500_u16).map(|n| SocketAddrV4::new(attacker.address, 10_000 + n));
        let all: Vec<Carried<'_>> =
            sources.map(|source| Carried { source, to: TO, bytes: b"flood" }).collect();
        for (n, some) in all.chunks(500).enumerate() {
            let head = attacker.head(1, 500 * n as u64);
            assert!(attacker.write(&mut stream, &counted(&frame(&head, some))));
        }
        kept.push(stream);
    }
    wait_for("all of it", || {
        let received = hosts.tunnel(1)["received"]["datagrams"].as_u64().unwrap();
        received + drops(&hosts, "stand_ins_full") >= 6 * 1500
    });
    assert!(drops(&hosts, "stand_ins_full") >= 6 * (1500 - MAX_STAND_INS_PER_PEER as u64));
    let stand_ins = hosts.tunnel(1)["stand_ins"].as_u64().unwrap();
    assert!(stand_ins >= 4 * MAX_STAND_INS_PER_PEER as u64 - 1 && stand_ins <= 1024, "{stand_ins}");
    member.set_nonblocking(true).unwrap();
    let mut buffer = [0; 99];
    while member.recv_from(&mut buffer).is_ok() {}
    member.set_nonblocking(false).unwrap();
    // Whoever has one keeps it, and honest sources that are new get theirs.
    check_goes_on(&hosts, &private, &member, "known");
    for n in 0..20 {
        let another = hosts.socket(0, "0.0.0.0:0");
        check_goes_on(&hosts, &another, &member, &format!("new {n}"));
    }
}

#[test]
fn a_flood_drowns_its_own_sender_alone() {
    let test = "hostile_tunnel::a_flood_drowns_its_own_sender_alone";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    check_goes_on(&hosts, &private, &member, "before");
    let attacker = Attacker::new(&hosts);
    let mut stream = attacker.greet();
    // Each is refused for its source, and counts for the rate all the same.
    let source = "127.0.0.1:5".parse().unwrap();
    let tiny = vec![Carried { source, to: TO, bytes: b"" }; MAX_FRAME_DATAGRAMS];
    let flood = counted(&frame(&attacker.head(1, 0), &tiny)).repeat(20);
    let (over, mut rounds) = (std::sync::atomic::AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let is_over = crate::world::Over(&over);
        scope.spawn(|| {
            // A stranger is sent away after a while.
            let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
            while !is_over() && attacker.write(&mut stream, &flood) {}
        });
        wait_for("the flood", || drops(&hosts, "source") + drops(&hosts, "rate") > 50_000);
        while rounds < 20 {
            let text = format!("honest {rounds}");
            private.send_to(text.as_bytes(), TO).unwrap();
            member.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
            let mut buffer = [0; 99];
            let got = member.recv_from(&mut buffer).map(|(len, _)| len).ok();
            assert_eq!(got, Some(text.len()), "{} {}", hosts.tunnel(0), hosts.tunnel(1));
            assert_eq!(&buffer[..text.len()], text.as_bytes());
            rounds += 1;
        }
        drop(is_over);
    });
    let tunnel: Value = hosts.tunnel(1);
    assert_eq!(tunnel["drops"].get("queue"), None, "{tunnel}");
}
