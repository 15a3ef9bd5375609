//! What a primary says of its tail, against a recount from its log.

use super::*;
use crate::engine::{SourceWord, Tail};
use replication::{Body, Record};
use std::collections::BTreeSet;

/// The tail after `confirmed`, counted anew from what is on disk.
fn recount(store: &MemoryStore, partition: u16, confirmed: Lsn) -> Tail {
    let mut tail = Tail {
        after: confirmed,
        ..Tail::default()
    };
    let mut devices = BTreeSet::new();
    let log = log_of(store, partition).into_iter();
    for logged in log.filter(|record| record.lsn > confirmed) {
        let record = Record::decode(&logged.bytes).unwrap();
        tail.records += 1;
        tail.bytes += logged.bytes.len() as u64;
        tail.oldest = tail.oldest.or(Some(record.time));
        if record.event_count > 0 {
            *tail.kinds.entry("telemetry".into()).or_default() += u64::from(record.event_count);
        }
        let Body::Data { state, events } = record.body else {
            continue;
        };
        let events =
            hub::telemetry::decode_events(record.first_sequence, record.event_count, events);
        for event in events.unwrap() {
            devices.insert(event.device.as_str().to_owned());
        }
        for (key, _) in state {
            let letter = char::from(key[0]).to_string();
            *tail.kinds.entry(letter).or_default() += 1;
            let id: Vec<u8> = match key[0] {
                b'd' | b't' | b'm' | b'q' | b'c' => key[1..].to_vec(),
                b'x' => key[9..].to_vec(),
                _ => continue,
            };
            let end = id.iter().position(|b| *b == 0).unwrap();
            devices.insert(String::from_utf8(id[..end].to_vec()).unwrap());
        }
    }
    tail.devices = devices.len() as u64;
    tail
}

impl World {
    fn words(&self, who: usize) -> Vec<&SourceWord> {
        let words = self.nodes[who].sent.iter().filter_map(|m| match m {
            Message::Word { at, word } if *at == key(0) => Some(word),
            _ => None,
        });
        words.collect()
    }

    fn busy(&mut self) {
        for n in 0..5 {
            let name = format!("d{n}");
            self.attach(WEST, 0, &name, n + 10);
            self.reply(WEST, 0, telemetry(&name, n + 10, 3, 100));
            self.now = self.now.plus(7);
        }
        let patch = hub::command::TwinCommand::Patch {
            device: device("d1"),
            body: Bytes::from_static(b"{\"tags\":{\"a\":1}}"),
            if_match: IfMatch::Any,
        };
        self.reply(WEST, 0, Command::Twin(patch));
        let send = hub::command::C2dCommand::Send {
            device: device("d2"),
            message: hub::command::C2dMessage::default(),
        };
        self.reply(WEST, 0, Command::C2d(send));
    }

    fn check_tail(&mut self, confirmed: Lsn) {
        let counted = recount(&self.nodes[WEST].store, 0, confirmed);
        assert_eq!(self.fact(WEST, 0).tail, counted);
        let head = self.head(WEST, 0);
        let word = (*self.words(WEST).last().unwrap()).clone();
        assert_eq!(word.tail, counted);
        let said = (word.epoch, word.lsn, word.next_sequence, word.time);
        assert_eq!(said, (head.epoch, head.lsn, head.next_sequence, head.time));
    }
}

#[test]
fn a_word_says_what_the_follower_lacks() {
    let mut world = World::new();
    world.register(WEST, 0, "before");
    world.run(300);
    let confirmed = world.head(EAST, 0).lsn;
    world.loses = |m| matches!(m, Message::Records { .. });
    world.busy();
    world.run(100);
    world.check_tail(confirmed);
    assert_eq!(world.fact(WEST, 0).tail.devices, 5);
    let (word, _) = world.fact(EAST, 0).word.expect("it came");
    assert_eq!(word.lsn, world.head(WEST, 0).lsn);
}

#[test]
fn what_is_confirmed_leaves_the_tail() {
    let mut world = World::new();
    world.loses = |m| matches!(m, Message::Records { .. });
    world.busy();
    world.run(100);
    let middle = Lsn(world.head(WEST, 0).lsn.0 - 3);
    let message = Message::Acked {
        at: key(0),
        lsn: middle,
    };
    let from = region(EAST);
    world.give(WEST, vec![Input::Message { from, message }]);
    world.run(100);
    world.check_tail(middle);
    world.loses = |_| false;
    world.run(3000);
    let all = world.head(WEST, 0).lsn;
    world.check_tail(all);
    assert_eq!(world.fact(WEST, 0).tail.records, 0);
}

#[test]
fn a_restarted_primary_reads_its_tail_back_from_the_log() {
    let mut world = World::new();
    world.register(WEST, 0, "before");
    world.run(300);
    let confirmed = world.head(EAST, 0).lsn;
    world.loses = |m| matches!(m, Message::Records { .. });
    world.busy();
    world.restart(WEST);
    world.roles(WEST, Role::Primary, 1);
    world.run(3000);
    assert_eq!(world.serving(WEST, 0), Serving::Open);
    world.busy_more();
    world.run(200);
    world.check_tail(confirmed);
    let lsn = Lsn(confirmed.0 + 3);
    let (from, at) = (region(EAST), key(0));
    let message = Message::Acked { at, lsn };
    world.give(WEST, vec![Input::Message { from, message }]);
    world.run(100);
    world.check_tail(lsn);
}

impl World {
    fn busy_more(&mut self) {
        for n in 0..3 {
            self.attach(WEST, 0, &format!("late{n}"), n + 50);
        }
    }
}

#[test]
fn a_follower_that_lost_records_lets_the_tail_grow_again() {
    let mut world = World::new();
    world.busy();
    world.run(300);
    let image = world.nodes[EAST].store.reopen();
    let kept = Lsn(world.head(WEST, 0).lsn.0 - 4);
    let page = log_of(&image, 0);
    let crc = page.iter().find(|r| r.lsn == kept).unwrap();
    let follow = Message::Follow {
        at: key(0),
        epoch: Epoch(1),
        lsn: kept,
        crc: replication::record::crc_of(&crc.bytes),
    };
    world.loses = |m| matches!(m, Message::Records { .. });
    let from = region(EAST);
    world.give(
        WEST,
        vec![Input::Message {
            from,
            message: follow,
        }],
    );
    // The real follower would correct this: it is not asked.
    world.loses = |_| true;
    world.give(WEST, vec![Input::Tick]);
    world.check_tail(kept);
}

#[test]
fn words_are_said_while_something_changes_and_then_once_a_second() {
    let mut world = World::new();
    world.run(3000);
    let before = world.words(WEST).len();
    world.run(2000);
    assert_eq!(world.words(WEST).len(), before + 2);
    for n in 0..5 {
        world.register(WEST, 0, &format!("d{n}"));
        world.run(100);
    }
    assert!(world.words(WEST).len() >= before + 7);
    assert!(world.words(EAST).is_empty(), "a secondary has no word");
}

#[test]
fn a_word_is_kept_with_its_age_while_its_primary_is_away() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(1500);
    let lsn = world.head(WEST, 0).lsn;
    world.link(false);
    world.register(WEST, 0, "e");
    world.run(500);
    world.clock(EAST, 4321);
    let (word, age) = world.fact(EAST, 0).word.expect("it came");
    assert_eq!((word.lsn, age), (lsn, 4321));
    assert_eq!(world.words(WEST).last().unwrap().lsn.0, lsn.0 + 1);
    assert_eq!(world.fact(WEST, 0).word, None);
}

#[test]
fn words_of_an_older_epoch_or_of_anybody_else_are_ignored() {
    let mut world = World::new();
    world.register(WEST, 0, "d");
    world.run(1500);
    let said = world.fact(EAST, 0).word.map(|(word, _)| word).unwrap();
    let mut check = |who: usize, from: RegionName, change: fn(&mut SourceWord)| {
        let mut word = said.clone();
        word.lsn = Lsn(99);
        change(&mut word);
        let at = key(0);
        let message = Message::Word { at, word };
        let before = world.fact(who, 0).word.map(|(word, _)| word);
        world.give(who, vec![Input::Message { from, message }]);
        let after = world.fact(who, 0).word.map(|(word, _)| word);
        before != after
    };
    assert!(check(EAST, region(WEST), |_| {}));
    assert!(!check(EAST, region(WEST), |word| word.epoch = Epoch(0)));
    assert!(!check(EAST, region(EAST), |_| {}));
    let stranger = RegionName::parse("north").unwrap();
    assert!(!check(EAST, stranger, |_| {}));
    assert!(!check(WEST, region(EAST), |_| {}));
}

#[test]
fn a_failover_begins_with_an_empty_tail_and_no_former_word() {
    let mut world = World::new();
    world.busy();
    world.run(1500);
    world.fail_over(WEST, 1);
    assert_eq!(world.fact(EAST, 0).word, None);
    world.run(500);
    let fact = world.fact(EAST, 0);
    assert_eq!(fact.tail.records, 0);
    assert_eq!(world.fact(WEST, 0).word.unwrap().0.epoch, Epoch(2));
}

#[test]
fn a_late_word_of_the_former_epoch_is_ignored() {
    let mut world = World::new();
    world.run(1500);
    world.fail_over(WEST, 1);
    let word = SourceWord {
        epoch: Epoch(1),
        ..SourceWord::default()
    };
    let message = Message::Word { at: key(0), word };
    let from = region(EAST);
    world.give(WEST, vec![Input::Message { from, message }]);
    assert_eq!(world.fact(WEST, 0).word, None);
    world.run(1500);
    assert!(world.fact(WEST, 0).word.is_some());
    world.roles(WEST, Role::Secondary, 3);
    assert_eq!(world.fact(WEST, 0).word, None, "of the former epoch");
}

#[test]
fn memory_stays_bounded_while_nobody_confirms() {
    let mut world = World::new();
    world.attach(WEST, 0, "d", 1);
    world.run(300);
    let confirmed = world.head(EAST, 0).lsn;
    world.link(false);
    for _ in 0..5000 {
        world.reply(WEST, 0, telemetry("d", 1, 1, 1));
    }
    let ledger = &world.nodes[WEST].engine.partitions[&key(0)].ledger;
    assert!(ledger.notes() <= 1025, "{}", ledger.notes());
    world.run(100);
    world.check_tail(confirmed);
}
