use super::*;
use futures_util::FutureExt;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const LONG: Duration = Duration::from_secs(60);

fn body(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

fn taken(outbox: &Outbox) -> Taken {
    outbox
        .take()
        .now_or_never()
        .flatten()
        .expect("something waits")
}

fn nothing_waits(outbox: &Outbox) -> bool {
    outbox.take().now_or_never().is_none()
}

fn lengths(taken: &Taken, class: Class) -> Vec<usize> {
    let of_class = taken.frames.iter().filter(|frame| frame.class == class);
    of_class.map(|frame| frame.body.len()).collect()
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn control_goes_before_client_before_bulk() {
    let outbox = Outbox::new();
    for class in [Class::Bulk, Class::Client, Class::Control] {
        outbox.cast(class, body(10)).unwrap();
        outbox.cast(class, body(11)).unwrap();
    }
    let classes: Vec<Class> = taken(&outbox)
        .frames
        .iter()
        .map(|frame| frame.class)
        .collect();
    use Class::{Bulk, Client, Control};
    assert_eq!(classes, [Control, Control, Client, Client, Bulk, Bulk]);
}

#[test]
fn a_write_holds_one_large_bulk_frame_and_starves_nobody() {
    let outbox = Outbox::new();
    for length in 0..5 {
        outbox
            .cast(Class::Bulk, body(1024 * 1024 + length))
            .unwrap();
        outbox
            .cast(Class::Client, body(512 * 1024 + length))
            .unwrap();
    }
    let first = taken(&outbox);
    assert_eq!(lengths(&first, Class::Client), [512 * 1024]);
    assert_eq!(lengths(&first, Class::Bulk), [1024 * 1024]);
    outbox.cast(Class::Control, body(1)).unwrap();
    let second = taken(&outbox);
    assert_eq!(
        second.frames[0].class,
        Class::Control,
        "it waited for one write"
    );
    assert_eq!(lengths(&second, Class::Bulk), [1024 * 1024 + 1], "in order");
}

#[test]
fn many_small_frames_go_into_one_write() {
    let outbox = Outbox::new();
    for _ in 0..1000 {
        outbox.cast(Class::Client, body(50)).unwrap();
    }
    assert_eq!(taken(&outbox).frames.len(), 1000);
    assert!(nothing_waits(&outbox));
}

#[test]
fn a_full_queue_sends_nothing_until_what_was_taken_is_written() {
    let outbox = Outbox::new();
    let megabyte = 1024 * 1024;
    let mut queued = 0;
    let error = loop {
        match outbox.cast(Class::Bulk, body(megabyte)) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(
        error,
        LinkError::NotSent("the Bulk queue of the link is full".to_owned())
    );
    assert_eq!(
        queued,
        limits::LINK_QUEUE_BULK_BYTES_MAX / (megabyte + FRAME_OVERHEAD)
    );
    assert!(
        outbox.cast(Class::Control, body(megabyte)).is_ok(),
        "classes have rooms of their own"
    );

    let mut waiting = pin!(outbox.cast_wait(Class::Bulk, body(megabyte)));
    assert!(poll(waiting.as_mut()).is_pending());
    let taken = taken(&outbox);
    assert!(poll(waiting.as_mut()).is_pending(), "taken is not written");
    outbox.written(&taken);
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Ok(())));
}

#[test]
fn every_byte_of_room_comes_back() {
    let outbox = Outbox::new();
    for length in [0, 1, 100, limits::LINK_FRAME_BYTES_MAX - 10] {
        outbox.cast(Class::Control, body(length)).unwrap();
    }
    assert!(outbox.queued() > limits::LINK_FRAME_BYTES_MAX);
    while !nothing_waits_after_writing(&outbox) {}
    assert_eq!(outbox.queued(), 0);
}

fn nothing_waits_after_writing(outbox: &Outbox) -> bool {
    match outbox.take().now_or_never().flatten() {
        Some(taken) => {
            outbox.written(&taken);
            false
        }
        None => true,
    }
}

#[test]
fn a_body_larger_than_a_frame_is_not_sent() {
    let outbox = Outbox::new();
    let error = outbox
        .cast(Class::Bulk, body(limits::LINK_FRAME_BYTES_MAX - 9))
        .unwrap_err();
    assert!(matches!(error, LinkError::NotSent(_)), "{error}");
    assert!(nothing_waits(&outbox));
}

#[test]
fn the_end_of_a_link_tells_calls_that_were_handed_over_from_those_that_were_not() {
    let outbox = Outbox::new();
    tokio_test(async {
        let mut sent = pin!(outbox.call(Class::Client, body(1), LONG));
        assert!(poll(sent.as_mut()).is_pending());
        assert_eq!(taken(&outbox).frames.len(), 1);
        let mut queued = pin!(outbox.call(Class::Client, body(2), LONG));
        assert!(poll(queued.as_mut()).is_pending());
        outbox.close("broken");
        assert_eq!(
            sent.await,
            Err(LinkError::OutcomeUnknown("broken".to_owned()))
        );
        assert_eq!(queued.await, Err(LinkError::NotSent("broken".to_owned())));
        let after = outbox.call(Class::Client, body(3), LONG).await;
        assert_eq!(after, Err(LinkError::NotSent("broken".to_owned())));
        assert_eq!(outbox.cast(Class::Bulk, body(3)), Err(not_sent("broken")));
        assert!(outbox.take().await.is_none());
    });
}

#[test]
fn the_end_of_a_link_frees_who_waits_for_room() {
    let outbox = Outbox::new();
    while outbox.cast(Class::Bulk, body(1024 * 1024)).is_ok() {}
    let mut waiting = pin!(outbox.cast_wait(Class::Bulk, body(1024 * 1024)));
    assert!(poll(waiting.as_mut()).is_pending());
    outbox.close("broken");
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(not_sent("broken"))));
    assert_eq!(outbox.queued(), 0);
}

#[test]
fn a_call_that_times_out_in_the_queue_is_never_sent() {
    let outbox = Outbox::new();
    tokio_test(async {
        let error = outbox
            .call(Class::Client, body(1), Duration::from_millis(1))
            .await
            .unwrap_err();
        assert!(matches!(error, LinkError::NotSent(_)), "{error}");
        assert!(nothing_waits(&outbox));
        assert_eq!(outbox.queued(), 0);
    });
}

#[test]
fn a_call_that_times_out_after_it_was_sent_has_an_unknown_outcome() {
    let outbox = Outbox::new();
    tokio_test(async {
        let mut call = pin!(outbox.call(Class::Client, body(1), Duration::from_millis(1)));
        assert!(poll(call.as_mut()).is_pending());
        let id = taken(&outbox).frames[0].id;
        let error = call.await.unwrap_err();
        assert!(matches!(error, LinkError::OutcomeUnknown(_)), "{error}");
        outbox.settle(id, Ok(body(1)));
        assert!(outbox.state.lock().calls.is_empty());
    });
}

#[test]
fn a_caller_that_goes_away_leaves_nothing_behind() {
    let outbox = Outbox::new();
    tokio_test(async {
        {
            let mut call = pin!(outbox.call(Class::Client, body(1), LONG));
            assert!(poll(call.as_mut()).is_pending());
        }
        assert!(outbox.state.lock().calls.is_empty());
        assert!(nothing_waits(&outbox));
        assert_eq!(outbox.queued(), 0);
    });
}

#[test]
fn answers_reach_their_calls_in_any_order() {
    let outbox = Outbox::new();
    tokio_test(async {
        let mut first = pin!(outbox.call(Class::Client, body(1), LONG));
        let mut second = pin!(outbox.call(Class::Control, body(2), LONG));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        for frame in taken(&outbox).frames {
            let answer = body(frame.body.len() * 10);
            outbox.settle(frame.id, Ok(answer));
        }
        outbox.settle(99, Ok(body(0)));
        assert_eq!(second.await.unwrap().len(), 20);
        assert_eq!(first.await.unwrap().len(), 10);
    });
}

#[test]
fn calls_beyond_the_bound_are_not_sent_and_take_no_room() {
    let outbox = Outbox::new();
    tokio_test(async {
        let calls: Vec<_> = (0..limits::LINK_CALLS_IN_FLIGHT_MAX)
            .map(|_| {
                let mut call = Box::pin(outbox.call(Class::Client, Bytes::new(), LONG));
                assert!(poll(call.as_mut()).is_pending());
                call
            })
            .collect();
        let queued = outbox.queued();
        let error = outbox
            .call(Class::Client, Bytes::new(), LONG)
            .await
            .unwrap_err();
        assert!(matches!(error, LinkError::NotSent(_)), "{error}");
        assert_eq!(outbox.queued(), queued);
        drop(calls);
    });
}

#[test]
fn only_the_last_pong_waits() {
    let outbox = Outbox::new();
    for id in 1..100 {
        outbox.pong(id);
    }
    outbox.ping(7);
    let frames: Vec<(Kind, u64)> = taken(&outbox)
        .frames
        .iter()
        .map(|f| (f.kind, f.id))
        .collect();
    assert_eq!(frames, [(Kind::Ping, 7), (Kind::Pong, 99)]);
}

#[test]
fn a_writer_that_sleeps_is_woken() {
    let outbox = Outbox::new();
    let mut writer = pin!(outbox.take());
    assert!(poll(writer.as_mut()).is_pending());
    outbox.cast(Class::Bulk, body(5)).unwrap();
    assert!(matches!(poll(writer.as_mut()), Poll::Ready(Some(taken)) if taken.frames.len() == 1));
}

/// Runs a future with timers; without the budget that makes a task of many polls pause.
fn tokio_test(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(tokio::task::unconstrained(work));
}
