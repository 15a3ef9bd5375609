//! Clusters of several members in one process, over a network in memory that can be cut.

use bytes::Bytes;
use consensus::{
    BoxFuture, Consensus, ConsensusError, Machine, NodeId, Settings, Transport, WriteError, Written,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps its commands in order; answers with their number.
#[derive(Default)]
struct Journal {
    commands: Vec<String>,
    restored: Arc<AtomicUsize>,
}

impl Machine for Journal {
    fn apply(&mut self, command: &[u8]) -> Vec<u8> {
        self.commands
            .push(String::from_utf8(command.to_vec()).unwrap());
        self.commands.len().to_string().into_bytes()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.commands.join("\n").into_bytes()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.restored.fetch_add(1, Ordering::SeqCst);
        let text = String::from_utf8(snapshot.to_vec()).map_err(|e| e.to_string())?;
        self.commands = text.lines().map(str::to_owned).collect();
        Ok(())
    }
}

#[derive(Default)]
struct Wires {
    members: Mutex<BTreeMap<NodeId, Consensus>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

struct Wire {
    from: NodeId,
    wires: Arc<Wires>,
}

impl Transport for Wire {
    fn call(&self, to: NodeId, body: Bytes) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            {
                let cut = self.wires.cut.lock().unwrap();
                if cut.contains(&self.from) || cut.contains(&to) {
                    return Err("cut".into());
                }
            }
            let member = self.wires.members.lock().unwrap().get(&to).cloned();
            member.ok_or("not running")?.receive(body).await
        })
    }
}

struct Cluster {
    all: Vec<NodeId>,
    snapshot_every: u64,
    restore_votes: bool,
    folder: tempfile::TempDir,
    wires: Arc<Wires>,
    restored: BTreeMap<NodeId, Arc<AtomicUsize>>,
}

impl Cluster {
    async fn of(members: u64, snapshot_every: u64) -> Cluster {
        let mut cluster = Cluster {
            all: (1..=members).collect(),
            snapshot_every,
            restore_votes: false,
            folder: tempfile::tempdir().unwrap(),
            wires: Arc::default(),
            restored: BTreeMap::new(),
        };
        for node in cluster.all.clone() {
            cluster.start(node).await;
        }
        cluster.member(1).bootstrap().await.unwrap();
        cluster
    }

    fn settings(&self, node: NodeId) -> Settings {
        let folder = self.folder.path().join(node.to_string());
        Settings {
            snapshot_every: self.snapshot_every,
            restore_votes: self.restore_votes,
            ..Settings::for_node(node, &self.all, folder)
        }
    }

    async fn start(&mut self, node: NodeId) {
        let journal = Journal::default();
        self.restored.insert(node, journal.restored.clone());
        let wire = Arc::new(Wire {
            from: node,
            wires: self.wires.clone(),
        });
        let member = Consensus::start(self.settings(node), wire, Box::new(journal))
            .await
            .unwrap();
        self.wires.members.lock().unwrap().insert(node, member);
    }

    async fn stop(&self, node: NodeId) {
        let member = self.wires.members.lock().unwrap().remove(&node).unwrap();
        member.shutdown().await;
    }

    fn wipe(&self, node: NodeId) {
        std::fs::remove_dir_all(self.settings(node).folder).unwrap();
    }

    fn cut(&self, nodes: &[NodeId]) {
        *self.wires.cut.lock().unwrap() = nodes.iter().copied().collect();
    }

    fn member(&self, node: NodeId) -> Consensus {
        self.wires.members.lock().unwrap()[&node].clone()
    }

    /// The leader in the eyes of a running member that is not cut off; itself neither cut off nor stopped.
    async fn leader(&self) -> NodeId {
        self.leader_within(PATIENCE).await.expect("no leader")
    }

    async fn leader_within(&self, time: Duration) -> Option<NodeId> {
        let cut = self.wires.cut.lock().unwrap().clone();
        let running: Vec<NodeId> = self
            .wires
            .members
            .lock()
            .unwrap()
            .keys()
            .copied()
            .filter(|n| !cut.contains(n))
            .collect();
        let mut watch = self.member(running[0]).watch();
        let found = watch.wait_for(|status| {
            status
                .leader
                .is_some_and(|leader| running.contains(&leader))
        });
        tokio::time::timeout(time, found)
            .await
            .ok()
            .map(|status| status.unwrap().leader.unwrap())
    }

    async fn write(&self, command: &str) -> Written {
        loop {
            let leader = self.leader().await;
            match self
                .member(leader)
                .write(Bytes::from(command.to_owned()))
                .await
            {
                Ok(written) => return written,
                // It lost its leadership meanwhile.
                Err(WriteError::NotLeader { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn write_many(&self, prefix: &str, count: usize) -> u64 {
        let mut index = 0;
        for n in 0..count {
            index = self.write(&format!("{prefix}{n}")).await.index;
        }
        index
    }

    async fn commands(&self, node: NodeId, applied: u64) -> Vec<String> {
        let member = self.member(node);
        assert!(
            member.wait_applied(applied, PATIENCE).await,
            "node {node}: {:?}",
            member.status()
        );
        let bytes = member.read(|machine| machine.snapshot());
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// All running members hold the same, in order.
    async fn check(&self, expected: &[&str], applied: u64) {
        let running: Vec<NodeId> = self.wires.members.lock().unwrap().keys().copied().collect();
        for node in running {
            assert_eq!(self.commands(node, applied).await, expected, "node {node}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_answered_by_the_machine_and_applied_everywhere() {
    let cluster = Cluster::of(3, 500).await;
    assert_eq!(
        cluster.leader().await,
        1,
        "the founder has the shortest patience"
    );
    let first = cluster.write("a").await;
    let second = cluster.write("b").await;
    assert_eq!(
        (&first.answer[..], &second.answer[..]),
        (&b"1"[..], &b"2"[..])
    );
    assert!(first.index < second.index);
    cluster.check(&["a", "b"], second.index).await;
    assert!(cluster.member(1).barrier().await.unwrap() >= second.index);
    let status = cluster.member(2).status();
    assert_eq!(
        (status.leader, status.is_leader, status.voters),
        (Some(1), false, vec![1, 2, 3])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader_and_does_nothing() {
    let cluster = Cluster::of(3, 500).await;
    let written = cluster.write("a").await;
    cluster.commands(2, written.index).await;
    let error = WriteError::NotLeader { leader: Some(1) };
    assert_eq!(
        cluster.member(2).write(Bytes::from_static(b"b")).await,
        Err(error.clone())
    );
    assert_eq!(cluster.member(2).barrier().await, Err(error));
    let large = Bytes::from(vec![b'x'; types::limits::CONSENSUS_COMMAND_BYTES_MAX + 1]);
    assert!(matches!(
        cluster.member(1).write(large).await,
        Err(WriteError::TooLarge { .. })
    ));
    assert!(
        cluster
            .member(2)
            .receive(Bytes::from_static(b"\x01nonsense"))
            .await
            .is_err()
    );
    let last = cluster.write("c").await;
    cluster.check(&["a", "c"], last.index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_cut_off_another_leads_and_the_old_one_confirms_no_read() {
    let cluster = Cluster::of(3, 500).await;
    cluster.write("a").await;
    cluster.cut(&[1]);
    assert_ne!(cluster.leader().await, 1);
    let written = cluster.write("b").await;
    assert!(matches!(
        cluster.member(1).barrier().await,
        Err(WriteError::Unavailable(_))
    ));
    assert_eq!(cluster.commands(1, 0).await, ["a"]);
    cluster.cut(&[]);
    cluster.check(&["a", "b"], written.index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_keeps_everything() {
    let mut cluster = Cluster::of(3, 20).await;
    let mut index = cluster.write_many("a", 50).await;
    for node in [1, 2, 3] {
        cluster.stop(node).await;
    }
    for node in [1, 2, 3] {
        cluster.start(node).await;
    }
    // Founding again does nothing to a member that has a log.
    cluster.member(1).bootstrap().await.unwrap();
    index = index.max(cluster.write("b").await.index);
    let expected: Vec<String> = (0..50)
        .map(|n| format!("a{n}"))
        .chain(["b".to_owned()])
        .collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    cluster.check(&expected, index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_disk_rejoins_and_counts_again() {
    let mut cluster = Cluster::of(3, 500).await;
    cluster.write_many("a", 20).await;
    cluster.stop(3).await;
    cluster.wipe(3);
    cluster.write("b").await;
    cluster.start(3).await;
    let index = cluster.write("c").await.index;
    assert_eq!(cluster.commands(3, index).await.len(), 22);
    // Its vote counts again: with the leader gone, the other two go on.
    cluster.cut(&[1]);
    let index = cluster.write("d").await.index;
    assert_eq!(cluster.commands(3, index).await.len(), 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_lost_its_disk_and_founds_again_rejoins_its_old_cluster() {
    let mut cluster = Cluster::of(3, 500).await;
    cluster.write_many("a", 20).await;
    cluster.stop(1).await;
    cluster.wipe(1);
    cluster.start(1).await;
    cluster.member(1).bootstrap().await.unwrap();
    cluster.cut(&[1]);
    let index = cluster.write("b").await.index;
    cluster.cut(&[]);
    assert_eq!(cluster.commands(1, index).await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_disk_gives_no_votes_before_it_has_caught_up() {
    let mut cluster = Cluster::of(3, 500).await;
    cluster.write_many("a", 20).await;
    cluster.stop(3).await;
    cluster.wipe(3);
    cluster.cut(&[1]);
    cluster.start(3).await;
    // Member 2 has the whole log, yet 3 cannot know that.
    assert_eq!(cluster.leader_within(Duration::from_secs(4)).await, None);
    cluster.cut(&[]);
    let index = cluster.write("b").await.index;
    assert_eq!(cluster.commands(3, index).await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_far_behind_gets_a_snapshot() {
    let cluster = Cluster::of(3, 20).await;
    cluster.write("first").await;
    cluster.cut(&[3]);
    // Large enough for more than one piece of snapshot.
    let large = "x".repeat(8_000);
    let index = cluster.write_many(&large, 100).await;
    cluster.cut(&[]);
    assert_eq!(cluster.commands(3, index).await.len(), 101);
    assert!(
        cluster.restored[&3].load(Ordering::SeqCst) > 0,
        "it was sent the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_can_be_replaced() {
    let mut cluster = Cluster::of(3, 20).await;
    cluster.write_many("a", 40).await;
    cluster.all = vec![1, 2, 3, 4];
    cluster.start(4).await;
    let leader = cluster.leader().await;
    cluster
        .member(leader)
        .set_voters(vec![1, 2, 4])
        .await
        .unwrap();
    cluster.stop(3).await;
    let index = cluster.write("b").await.index;
    assert_eq!(cluster.commands(4, index).await.len(), 41);
    assert_eq!(cluster.member(4).status().voters, [1, 2, 4]);
    cluster.cut(&[leader]);
    cluster.write("c").await;
    let refused = cluster.member(leader).set_voters(vec![]).await;
    assert!(
        matches!(refused, Err(WriteError::Members(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_beyond_the_fifth_follow_without_a_vote() {
    let cluster = Cluster::of(6, 500).await;
    let index = cluster.write("a").await.index;
    assert_eq!(cluster.commands(6, index).await, ["a"]);
    let mut watch = cluster.member(6).watch();
    let seen =
        tokio::time::timeout(PATIENCE, watch.wait_for(|status| status.learners == [6])).await;
    assert_eq!(seen.unwrap().unwrap().voters, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_can_go_on_alone_and_be_joined_again() {
    let mut cluster = Cluster::of(3, 20).await;
    let index = cluster.write_many("a", 40).await;
    cluster.commands(3, index).await;
    let term = cluster.member(3).status().term;
    for node in [1, 2, 3] {
        cluster.stop(node).await;
    }
    for lost in [1, 2] {
        cluster.wipe(lost);
        assert!(matches!(
            consensus::rebuild_from_survivor(&cluster.settings(lost)),
            Err(ConsensusError::Settings(_))
        ));
    }
    assert!(consensus::rebuild_from_survivor(&cluster.settings(3)).unwrap() > term);
    cluster.start(3).await;
    assert_eq!(cluster.leader().await, 3);
    let index = cluster.write("b").await.index;
    assert_eq!(cluster.commands(3, index).await.len(), 41);
    for back in [1, 2] {
        cluster.start(back).await;
    }
    cluster.member(3).set_voters(vec![1, 2, 3]).await.unwrap();
    let index = cluster.write("c").await.index;
    for node in [1, 2, 3] {
        assert_eq!(cluster.commands(node, index).await.len(), 42);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rebuild_the_lost_members_get_their_votes_back_together() {
    let mut cluster = Cluster::of(3, 500).await;
    cluster.restore_votes = true;
    let index = cluster.write_many("a", 20).await;
    cluster.commands(3, index).await;
    for node in [1, 2, 3] {
        cluster.stop(node).await;
    }
    for lost in [1, 2] {
        cluster.wipe(lost);
    }
    consensus::rebuild_from_survivor(&cluster.settings(3)).unwrap();
    cluster.start(3).await;
    let index = cluster.write("b").await.index;
    cluster.start(1).await;
    assert_eq!(cluster.commands(1, index).await.len(), 21);
    // Two voters would need both: the second waits for the third.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.member(3).status().voters, [3]);
    cluster.start(2).await;
    let mut watch = cluster.member(3).watch();
    let all = watch.wait_for(|status| status.voters == [1, 2, 3]);
    tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap();
    // Both steps of the change are over once the same change does nothing.
    let mut done = cluster.member(3).set_voters(vec![1, 2, 3]).await;
    while matches!(done, Err(WriteError::Members(_))) {
        tokio::task::yield_now().await;
        done = cluster.member(3).set_voters(vec![1, 2, 3]).await;
    }
    let index = cluster.write("c").await.index;
    for node in [1, 2] {
        assert_eq!(cluster.commands(node, index).await.len(), 22);
    }
    cluster.cut(&[3]);
    let index = cluster.write("d").await.index;
    assert_eq!(cluster.commands(2, index).await.len(), 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused() {
    let cluster = Cluster::of(1, 500).await;
    cluster.write("a").await;
    let wire = Arc::new(Wire {
        from: 1,
        wires: cluster.wires.clone(),
    });
    let second = Consensus::start(cluster.settings(1), wire, Box::<Journal>::default()).await;
    assert!(matches!(second.err(), Some(ConsensusError::Storage(_))));
}
