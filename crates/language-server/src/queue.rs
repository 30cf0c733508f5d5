//! Messages that wait, so that a cancelled request is never begun.

use crate::message::{Failure, Message, failed};
use serde_json::Value;
use std::collections::VecDeque;

/// What came and was not handled yet.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Message>,
}

impl Queue {
    /// Adds a message. Cancelling a request that waits takes it out; the answer to send is returned.
    pub fn push(&mut self, message: Message) -> Option<Value> {
        if let Message::Notification { method, params } = &message
            && method == "$/cancelRequest"
        {
            let wanted = params.get("id")?;
            let at = self
                .waiting
                .iter()
                .position(|one| matches!(one, Message::Request { id, .. } if id == wanted))?;
            self.waiting.remove(at);
            return Some(failed(wanted, &Failure::new(Failure::CANCELLED, "cancelled")));
        }
        self.waiting.push_back(message);
        None
    }

    /// The next one to handle.
    pub fn pop(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cancelled_requests_are_answered_and_gone() {
        let mut queue = Queue::default();
        let request = |id: i32| Message::Request { id: json!(id), method: "x".into(), params: Value::Null };
        let cancel =
            |id: i32| Message::Notification { method: "$/cancelRequest".into(), params: json!({"id": id}) };
        assert_eq!(queue.push(request(1)), None);
        assert_eq!(queue.push(request(2)), None);
        let answer = queue.push(cancel(1)).unwrap_or_default();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(Failure::CANCELLED)));
        assert_eq!(queue.push(cancel(7)), None, "what is done can't be cancelled");
        assert_eq!(queue.pop(), Some(request(2)));
        assert!(queue.is_empty());
    }
}
