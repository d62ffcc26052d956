//! A node that tunnels has no privileges: a process of its own holds them, and sees to it that nothing of them is
//! left behind.

use crate::support::{installed, skip};
use crate::tunnels::sites::Sites;
use crate::tunnels::{GROUP, Hosts, TO, heard, hosts, said};
use crate::world::{Node, SYNOD, World, is_running, kill, monitor, wait_for};
use rustix::fs::StatVfsMountFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use synod_udp_shim::network::Mode;
use synod_udp_shim::network::monitor::{Answer, Message, Open, Request};
use synod_udp_shim::tunnel::Groups;

/// Another tunnel's group.
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 9), 7009);

/// What each thread of a process may do, by the names of proc_pid_status(5).
fn capabilities(pid: u32) -> Vec<BTreeMap<String, u64>> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |status: String| {
        let lines = status.lines().filter_map(|line| line.split_once(":\t"));
        let wanted = lines.filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs");
        let bits = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap();
        wanted.map(|(name, text)| (name.to_owned(), bits(text))).collect()
    };
    // A thread may end meanwhile.
    let read = threads.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    read.map(of).collect()
}

fn assert_powerless(pid: u32) {
    let threads = capabilities(pid);
    assert!(!threads.is_empty());
    for one in threads {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(one[set], 0, "{set} of {pid}: {one:?}");
        }
        assert_eq!(one["NoNewPrivs"], 1);
    }
}

fn member_of(hosts: &Hosts, n: usize, to: SocketAddrV4) -> UdpSocket {
    hosts.sites.on(n, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, to.port())).unwrap();
        socket.join_multicast_v4(to.ip(), &Ipv4Addr::UNSPECIFIED).unwrap();
        socket.set_read_timeout(Some(crate::world::PATIENCE)).unwrap();
        socket
    })
}

#[test]
fn a_node_that_redirects_may_do_nothing_that_its_user_may_not() {
    let test = "privileges::a_node_that_redirects_may_do_nothing_that_its_user_may_not";
    let Some(hosts) = hosts(test, 2) else { return };
    hosts.add_everywhere(&json!({}));
    let member = hosts.member(1);
    let private = hosts.socket(0, "0.0.0.0:0");
    private.send_to(b"carried", TO).unwrap();
    let (bytes, source) = heard(&member);
    assert_eq!(bytes, b"carried");
    // An answer comes back from the stand-in that it was sent to.
    member.send_to(b"answered", source).unwrap();
    assert_eq!(heard(&private).0, b"answered");

    // One that is added later is the same.
    let more = json!({"name": "u", "groups": [OTHER.ip()], "ports": [OTHER.port().to_string()],
                      "capture": "redirect"});
    for n in [0, 1] {
        assert_eq!(hosts.node(n).post("/v1/tunnels", &more)["capture"], "redirect");
    }
    let other = member_of(&hosts, 1, OTHER);
    other.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    wait_for("the second tunnel to carry", || {
        private.send_to(b"later", OTHER).unwrap();
        other.recv_from(&mut [0; 9]).is_ok()
    });
    let needed = (CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW).bits();
    for n in [0, 1] {
        let node = hosts.node(n);
        assert_powerless(node.pid());
        let holder = monitor(node.pid()).unwrap();
        assert_eq!(node.get("/v1/status")["monitor"], json!({ "pid": holder }));
        for held in capabilities(holder) {
            // And a port below 1024, of a membership.
            let more = CapabilitySet::NET_BIND_SERVICE.bits();
            assert_eq!((held["CapPrm"] & !more, held["NoNewPrivs"]), (needed, 1), "{held:?}");
            assert_eq!(held["CapEff"], held["CapPrm"]);
        }
        let (_, text) = said(hosts.sites.inside(n, SYNOD), &["doctor"], &hosts.worlds[n].data);
        assert!(text.contains(&format!("held apart from the node, by process {holder}")), "{text}");
        let (_, text) = said(hosts.sites.inside(n, SYNOD), &["status"], &hosts.worlds[n].data);
        assert!(text.contains(&format!("held apart, by process {holder}")), "{text}");
    }
    // Nor may its engines, with a sandbox or without.
    let world = &hosts.worlds[0];
    let program = world.program("a.pl", ":- use_module(library(synod)).\nyes.\n");
    for sandbox in [true, false] {
        let options = json!({"sandbox": sandbox, "max_time_ms": 60_000});
        let agent = hosts.node(0).run_agent(&program, &format!("a{sandbox}"), options);
        let name = agent["name"].as_str().unwrap();
        assert_eq!(hosts.node(0).query(name, "yes"), ["true"]);
        assert_powerless(hosts.node(0).agent(name)["pid"].as_u64().unwrap() as u32);
    }
}

#[test]
fn a_node_that_is_killed_leaves_nothing_behind() {
    let test = "privileges::a_node_that_is_killed_leaves_nothing_behind";
    let Some(mut hosts) = hosts(test, 1) else { return };
    let before = hosts.sites.kernel(0);
    let member = hosts.member(0);
    let private = hosts.socket(0, "0.0.0.0:0");
    hosts.add(0, json!({}));
    private.send_to(b"through the node", TO).unwrap();
    assert_eq!(heard(&member).0, b"through the node");
    let node = hosts.nodes[0].take().unwrap();
    let holder = monitor(node.pid()).unwrap();
    node.kill();
    assert!(!is_running(holder));
    assert_eq!(hosts.sites.kernel(0), before);
    private.send_to(b"without it", TO).unwrap();
    assert_eq!(heard(&member).0, b"without it");
    let (_, text) = said(hosts.sites.inside(0, SYNOD), &["doctor"], &hosts.worlds[0].data);
    assert!(!text.contains("was killed"), "{text}");

    // One that is started at once waits for what is taken out, and so does one of another folder, which runs.
    hosts.start(0);
    let world = World::new();
    let mut command = hosts.sites.inside(0, SYNOD);
    command.args(["up", "--node", "second", "--no-mdns"]).env("SYNOD_DATA", &world.data);
    let second = Node::start(command, &world.data);
    for _ in 0..3 {
        assert_eq!(hosts.tunnel(0)["capture"], "redirect", "{}", hosts.tunnel(0));
        // What holds its privileges is not waited for.
        hosts.nodes[0].take().unwrap().die();
        hosts.start(0);
    }
    hosts.nodes[0].take().unwrap().die();
    let request =
        json!({"name": "u", "groups": [GROUP], "ports": ["20005"], "capture": "redirect"});
    assert_eq!(second.post("/v1/tunnels", &request)["capture"], "redirect");
    private.send_to(b"through another", TO).unwrap();
    assert_eq!(heard(&member).0, b"through another");
    second.down();
    assert_eq!(hosts.sites.kernel(0), before);
}

#[test]
fn a_node_whose_privileges_are_gone_says_so() {
    let test = "privileges::a_node_whose_privileges_are_gone_says_so";
    let Some(mut hosts) = hosts(test, 1) else { return };
    let before = hosts.sites.kernel(0);
    hosts.add(0, json!({}));
    kill(monitor(hosts.node(0).pid()).unwrap(), Signal::KILL);
    wait_for("the tunnel to be down", || hosts.tunnel(0)["capture"] == "none");
    let remark = hosts.tunnel(0)["remarks"][0].as_str().unwrap().to_owned();
    assert!(remark.contains("signal: 9") && remark.contains("synod down"), "{remark}");
    let status = hosts.node(0).get("/v1/status");
    assert!(status["monitor"]["ended"].as_str().unwrap().contains("signal: 9"), "{status}");
    assert!(status["warnings"][0].as_str().unwrap().starts_with("tunnel t: "), "{status}");
    let (is_well, text) = said(hosts.sites.inside(0, SYNOD), &["doctor"], &hosts.worlds[0].data);
    assert!(!is_well && text.contains("bad  privileges: "), "{text}");
    let request = json!({"name": "u", "groups": [OTHER.ip()], "ports": ["7009"]});
    let (code, refused) = hosts.node(0).ask("POST", "/v1/tunnels", &request).unwrap();
    assert!(code == 400 && refused["message"].as_str().unwrap().contains("synod up"), "{refused}");
    // What takes no privilege goes on.
    let join = json!({"name": "u", "groups": [OTHER.ip()], "ports": ["7009"], "capture": "join"});
    assert_eq!(hosts.node(0).post("/v1/tunnels", &join)["capture"], "join");
    hosts.node(0).post("/v1/tunnels/u/remove", &json!({}));
    // And the next start mends it.
    hosts.nodes[0].take().unwrap().down();
    assert_ne!(hosts.sites.kernel(0), before);
    hosts.start(0);
    assert_eq!(hosts.tunnel(0)["capture"], "redirect");
    hosts.nodes[0].take().unwrap().down();
    assert_eq!(hosts.sites.kernel(0), before);
}

/// A world that everybody may look into, and the program there.
fn open_world() -> (World, String) {
    let world = World::new();
    std::fs::set_permissions(world.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = world.path().join("synod");
    std::fs::hard_link(SYNOD, &program)
        .or_else(|_| std::fs::copy(SYNOD, &program).map(drop))
        .unwrap();
    (world, program.to_str().unwrap().to_owned())
}

#[test]
fn a_node_may_be_a_user_who_may_nothing() {
    let test = "privileges::a_node_may_be_a_user_who_may_nothing";
    let Some(hosts) = hosts(test, 1) else { return };
    let Ok(passwd) = std::fs::read_to_string("/etc/passwd") else { return skip(test, "no users") };
    let nobody = passwd.lines().find_map(|line| line.strip_prefix("nobody:")?.split(':').nth(1));
    let Some(nobody) = nobody.and_then(|uid| uid.parse::<u32>().ok()) else {
        return skip(test, "there is no user nobody");
    };
    let before = hosts.sites.kernel(0);
    let (world, synod) = open_world();
    let up = |data: &Path| {
        let mut command = hosts.sites.inside(0, &synod);
        command.args(["up", "--no-mdns", "--user", "nobody", "--data"]).arg(data);
        command
    };
    // A folder that is somebody else's is not taken.
    let foreign = world.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    let refused = up(&foreign).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(&format!("chown -R nobody {}", foreign.display())), "{said}");
    assert_eq!(refused.status.code(), Some(2));
    chown(&foreign, Some(nobody), None).unwrap();
    Node::start(up(&foreign), &foreign).down();

    // One that is not there is made.
    let node = Node::start(up(&world.data), &world.data);
    assert_eq!(world.data.metadata().unwrap().uid(), nobody);
    let holder = monitor(node.pid()).unwrap();
    for pid in [node.pid(), holder] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let uids = format!("Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}");
        assert!(status.contains(&uids), "{status}");
    }
    assert_powerless(node.pid());
    let request =
        json!({"name": "t", "groups": [GROUP], "ports": ["20005"], "capture": "redirect"});
    assert_eq!(node.post("/v1/tunnels", &request)["capture"], "redirect");
    let file = world.data.join("network/t.state").metadata().unwrap();
    assert_eq!(file.uid(), nobody);
    let member = hosts.member(0);
    hosts.socket(0, "0.0.0.0:0").send_to(b"as nobody", TO).unwrap();
    assert_eq!(heard(&member).0, b"as nobody");
    let program = world.program("a.pl", ":- use_module(library(synod)).\nyes.\n");
    for sandbox in [true, false] {
        let name = format!("a{sandbox}");
        node.run_agent(&program, &name, json!({"sandbox": sandbox, "max_time_ms": 60_000}));
        assert_eq!(node.query(&name, "yes"), ["true"]);
    }
    node.kill();
    assert_eq!(hosts.sites.kernel(0), before);
    // In the background it is the same.
    let detached = up(&world.data).arg("--detach").output().unwrap();
    assert!(detached.status.success(), "{}", String::from_utf8_lossy(&detached.stderr));
    assert_eq!(world.data.join("node.log").metadata().unwrap().uid(), nobody);
    let down = hosts.sites.inside(0, &synod).args(["down", "--data"]).arg(&world.data).status();
    assert!(down.unwrap().success());
    assert_eq!(hosts.sites.kernel(0), before);
}

/// What the kernel lets a program do for whoever starts it is not handed on by the node either.
#[test]
fn a_node_whose_file_gives_privileges_gives_them_up() {
    let test = "privileges::a_node_whose_file_gives_privileges_gives_them_up";
    let Some(hosts) = hosts(test, 1) else { return };
    let before = hosts.sites.kernel(0);
    let world = World::new();
    std::fs::set_permissions(world.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let synod = world.path().join("synod");
    // A file of its own: what a file gives is the same under all its names.
    std::fs::copy(SYNOD, &synod).unwrap();
    let given = Command::new("setcap").arg("cap_net_admin,cap_net_raw+ep").arg(&synod).status();
    let is_ignored =
        rustix::fs::statvfs(&synod).unwrap().f_flag.contains(StatVfsMountFlags::NOSUID);
    if !given.is_ok_and(|given| given.success()) || is_ignored || !installed("setpriv") {
        return skip(test, "there is no `setcap` or `setpriv`, or no file gives privileges here");
    }
    let program = world.program("a.pl", ":- use_module(library(synod)).\nyes.\n");
    let homes = world.path().join("homes");
    std::fs::create_dir(&homes).unwrap();
    std::fs::set_permissions(&homes, PermissionsExt::from_mode(0o777)).unwrap();
    for user in ["65534", "0"] {
        let data = homes.join(user);
        let mut command = hosts.sites.inside(0, "setpriv");
        let ids =
            [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
        command.args(ids).arg(&synod).args(["up", "--no-mdns", "--data"]).arg(&data);
        let node = Node::start(command, &data);
        let holder = monitor(node.pid()).unwrap();
        let request =
            json!({"name": "t", "groups": [GROUP], "ports": ["20005"], "capture": "redirect"});
        assert_eq!(node.post("/v1/tunnels", &request)["capture"], "redirect");
        for sandbox in [true, false] {
            let name = format!("a{sandbox}");
            node.run_agent(&program, &name, json!({"sandbox": sandbox, "max_time_ms": 60_000}));
            assert_eq!(node.query(&name, "yes"), ["true"]);
            let engine = node.agent(&name)["pid"].as_u64().unwrap() as u32;
            for one in capabilities(engine).into_iter().chain(capabilities(node.pid())) {
                // What could be had by executing something is bounded by root alone, and is not had.
                let all =
                    ["CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"].map(|set| one[set]);
                assert_eq!(all, [0, 0, 0, 0, 1], "{one:?}");
            }
        }
        node.kill();
        assert!(!is_running(holder));
        assert_eq!(hosts.sites.kernel(0), before, "of user {user}");
    }
}

/// A process that holds privileges, for a node that lies.
struct Lied {
    monitor: Child,
    socket: Option<OwnedFd>,
}

impl Lied {
    fn start(sites: &Sites, folder: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut command: Command = sites.inside(0, SYNOD);
        command.args(["monitor", "--folder"]).arg(folder);
        let monitor = command.stdin(theirs).stdout(Stdio::null()).spawn().unwrap();
        Self { monitor, socket: Some(ours) }
    }

    fn ask(&self, bytes: &[u8]) -> Answer {
        let socket = self.socket.as_ref().unwrap();
        send(socket, bytes, SendFlags::NOSIGNAL).unwrap();
        let mut answer = vec![0; 1 << 17];
        let (len, _) = recv(socket, &mut answer[..], RecvFlags::empty()).unwrap();
        match Message::decode(&answer[..len]).unwrap() {
            Message::Answer(answer) => answer,
            Message::Request(request) => panic!("it asks: {request:?}"),
        }
    }
}

impl Drop for Lied {
    fn drop(&mut self) {
        self.socket = None;
        self.monitor.wait().unwrap();
    }
}

#[test]
fn a_node_that_lies_gets_no_rules_but_a_tunnels_and_no_file_elsewhere() {
    let test = "privileges::a_node_that_lies_gets_no_rules_but_a_tunnels_and_no_file_elsewhere";
    for program in ["ip", "nft"] {
        if !installed(program) {
            return skip(test, &format!("`{program}` is not installed"));
        }
    }
    let sites = match Sites::new(1) {
        Ok(sites) => sites,
        Err(why) => return skip(test, &why),
    };
    let before = sites.kernel(0);
    let world = World::new();
    let folder = world.path().join("network");
    let lied = Lied::start(&sites, &folder);
    let open = |change: &dyn Fn(&mut Open)| {
        let mut open = Open {
            name: "t".to_owned(),
            tag: "liar".to_owned(),
            groups: Groups::new(vec![GROUP], vec!["20005".parse().unwrap()]).unwrap(),
            address: Ipv4Addr::new(127, 70, 1, 2),
            capture: Some(Mode::Redirect),
        };
        change(&mut open);
        Message::Request(Request::Open(open)).encode()
    };
    let refused = |bytes: &[u8]| match lied.ask(bytes) {
        Answer::Failed(why) => why,
        answer => panic!("it does it: {answer:?}"),
    };
    // What `Groups` does not hold is written by hand.
    let good = open(&|_| {});
    let at = good.windows(4).position(|four| four == GROUP.octets()).unwrap();
    for host in [[10, 78, 0, 1], [127, 0, 0, 1], [255; 4]] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&host);
        assert!(refused(&bytes).contains("is not a multicast group"));
    }
    for address in ["127.0.0.1", "10.78.0.2"] {
        assert!(
            refused(&open(&|open| open.address = address.parse().unwrap())).contains("virtual")
        );
    }
    let elsewhere = world.path().join("elsewhere");
    for name in ["../elsewhere", elsewhere.to_str().unwrap(), "", ".", "..", "a/../../elsewhere"] {
        assert!(refused(&open(&|open| open.name = name.to_owned())).contains("no name"));
    }
    for tag in ["x;flush", "x}", "x y"] {
        assert!(refused(&open(&|open| open.tag = tag.to_owned())).contains("rules of ours"));
    }
    for bytes in [&[][..], &[1], &[1, 9], &[2, 0], &[0; 4096], &[1, 0, 0], &[1, 2, 0, 0, 0, 1]] {
        // Saying nothing is what the end is.
        if !bytes.is_empty() {
            refused(bytes);
        }
    }
    refused(&Message::Answer(Answer::Done).encode());
    assert_eq!(sites.kernel(0), before);
    assert!(!elsewhere.exists() && !elsewhere.with_extension("state").exists());

    // A link in its folder leads it nowhere either.
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&elsewhere, "mine").unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join("t.state")).unwrap();
    let answer = lied.ask(&good);
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "mine");
    // What is no state of ours is no reason to refuse: it is the name alone that goes.
    assert!(matches!(answer, Answer::Opened { has_raw: true, .. }), "{answer:?}");
    assert_ne!(sites.kernel(0), before);
    assert!(refused(&good).contains("is open already"));
    drop(lied);
    assert_eq!(sites.kernel(0), before);
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_privileges_a_node_is_as_it_was() {
    let test = "privileges::without_privileges_a_node_is_as_it_was";
    if !installed("setpriv") {
        return skip(test, "`setpriv` is not installed");
    }
    let world = World::on_loopback();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin,-net_raw", "--inh-caps=-all", SYNOD, "up"]);
    command.args(["--no-mdns"]).env("SYNOD_DATA", &world.data).stdin(Stdio::null());
    let node = Node::start(command, &world.data);
    assert_eq!(node.get("/v1/status")["monitor"], Value::Null);
    assert_eq!(monitor(node.pid()), None);
    let request =
        json!({"name": "t", "groups": [GROUP], "ports": ["20005"], "capture": "redirect"});
    let (code, refused) = node.ask("POST", "/v1/tunnels", &request).unwrap();
    assert!(code == 400 && refused["message"].as_str().unwrap().contains("setcap"), "{refused}");
    let (_, text) = said(Command::new(SYNOD), &["doctor"], &world.data);
    assert!(text.contains("warn privileges: the node was started without"), "{text}");
    node.down();
}
