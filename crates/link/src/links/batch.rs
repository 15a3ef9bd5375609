//! Frames on their way into one write: small ones copied together, large bodies left where they are.

use super::frame::Frame;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bodies up to this are copied: cheaper than a segment of their own.
const COPIED_BYTES_MAX: usize = 4096;

/// The bytes of some frames, in segments.
pub(crate) struct Batch {
    segments: VecDeque<Bytes>,
    remaining: usize,
}

impl Batch {
    /// Lays out frames; `scratch` is reused from batch to batch.
    pub fn of(frames: impl IntoIterator<Item = Frame>, scratch: &mut BytesMut) -> Batch {
        let mut batch = Batch {
            segments: VecDeque::new(),
            remaining: 0,
        };
        for frame in frames {
            scratch.extend_from_slice(&frame.header());
            if frame.body.len() <= COPIED_BYTES_MAX {
                scratch.extend_from_slice(&frame.body);
            } else {
                batch.push(scratch.split().freeze());
                batch.push(frame.body);
            }
        }
        batch.push(scratch.split().freeze());
        batch
    }

    fn push(&mut self, segment: Bytes) {
        if !segment.is_empty() {
            self.remaining += segment.len();
            self.segments.push_back(segment);
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.segments.len());
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(segment);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(
            count <= self.remaining,
            "nobody can have written more than there is"
        );
        self.remaining -= count;
        while let Some(first) = self.segments.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Kind;
    use super::*;
    use crate::Class;

    fn frame(id: u64, length: usize) -> Frame {
        let body = Bytes::from(vec![id as u8; length]);
        Frame {
            kind: Kind::Cast,
            class: Class::Bulk,
            id,
            body,
        }
    }

    #[test]
    fn a_batch_is_the_frames_one_after_the_other_however_it_is_written() {
        let frames = [
            frame(1, 10),
            frame(2, 0),
            frame(3, 50_000),
            frame(4, 4096),
            frame(5, 4097),
        ];
        let whole: Vec<u8> = frames
            .iter()
            .flat_map(|frame| [&frame.header()[..], &frame.body].concat())
            .collect();
        for step in [1, 13, 4096, 70_000] {
            let mut batch = Batch::of(frames.clone(), &mut BytesMut::new());
            let mut written = Vec::new();
            while batch.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = batch.chunks_vectored(&mut slices);
                let bytes = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.iter().copied());
                let bytes: Vec<u8> = bytes.take(step).collect();
                let count = bytes.len();
                written.extend_from_slice(&bytes);
                batch.advance(count);
            }
            assert!(written == whole, "in steps of {step}");
        }
    }

    #[test]
    fn large_bodies_are_not_copied() {
        let large = frame(1, 100_000);
        let batch = Batch::of([large.clone()], &mut BytesMut::new());
        assert!(
            batch
                .segments
                .iter()
                .any(|segment| segment.as_ptr() == large.body.as_ptr())
        );
    }
}
