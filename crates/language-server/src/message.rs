//! JSON-RPC: what a message is, and the answers to it.
//!
//! Parameters stay JSON and are read by path: of the protocol's hundreds of types this server needs a few
//! fields each, and a field that is missing is an error of that request alone.

use serde_json::{Value, json};

/// A message of the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// To be given back.
        id: Value,
        /// What is asked.
        method: String,
        /// With what.
        params: Value,
    },
    /// Wants none.
    Notification {
        /// What is said.
        method: String,
        /// With what.
        params: Value,
    },
    /// The answer to a request of this server.
    Response {
        /// Of the request.
        id: Value,
    },
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number in the specification.
    pub code: i64,
    /// For people.
    pub message: String,
}

impl Failure {
    /// The bytes are no JSON.
    pub const PARSE: i64 = -32700;
    /// The JSON is no request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// There is no such method.
    pub const NO_METHOD: i64 = -32601;
    /// A parameter is missing or of the wrong kind.
    pub const INVALID_PARAMS: i64 = -32602;
    /// A fault of this program.
    pub const INTERNAL: i64 = -32603;
    /// A request came before `initialize`.
    pub const NOT_INITIALIZED: i64 = -32002;
    /// The client cancelled it.
    pub const CANCELLED: i64 = -32800;
    /// It can't be done, for a reason that people should see.
    pub const REQUEST_FAILED: i64 = -32803;

    /// A failure.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A parameter is missing or of the wrong kind.
    pub fn params(name: &str) -> Self {
        Self::new(Self::INVALID_PARAMS, format!("the parameter {name} is missing or of the wrong kind"))
    }

    /// What can't be done, and why.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Self::REQUEST_FAILED, message)
    }
}

impl Message {
    /// Reads the body of a message.
    ///
    /// # Errors
    /// The answer to send: it is no JSON, or no message.
    pub fn read(body: &[u8]) -> Result<Self, Value> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            failed(&Value::Null, &Failure::new(Failure::PARSE, format!("no JSON: {error}")))
        })?;
        let invalid =
            |id: &Value, message: &str| failed(id, &Failure::new(Failure::INVALID_REQUEST, message));
        let Value::Object(mut map) = value else {
            return Err(invalid(&Value::Null, "a message is an object"));
        };
        let id = map.remove("id").filter(|id| id.is_number() || id.is_string());
        let params = map.remove("params").unwrap_or(Value::Null);
        match (map.remove("method"), id) {
            (Some(Value::String(method)), Some(id)) => Ok(Self::Request { id, method, params }),
            (Some(Value::String(method)), None) => Ok(Self::Notification { method, params }),
            (None, Some(id)) if map.contains_key("result") || map.contains_key("error") => {
                Ok(Self::Response { id })
            }
            (_, id) => Err(invalid(&id.unwrap_or(Value::Null), "a request has a method")),
        }
    }
}

/// The answer with a result.
pub fn answered(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// The answer without one.
pub fn failed(id: &Value, failure: &Failure) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": failure.code, "message": failure.message}})
}

/// Something the client did not ask for.
pub fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// A question to the client.
pub fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A text in the parameters.
///
/// # Errors
/// It is missing.
pub fn text<'a>(params: &'a Value, pointer: &str) -> Result<&'a str, Failure> {
    params.pointer(pointer).and_then(Value::as_str).ok_or_else(|| Failure::params(pointer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let read = |text: &str| Message::read(text.as_bytes());
        assert!(matches!(read(r#"{"id":1,"method":"a"}"#), Ok(Message::Request { .. })));
        assert!(matches!(read(r#"{"method":"a","params":{}}"#), Ok(Message::Notification { .. })));
        assert!(matches!(read(r#"{"id":"x","result":null}"#), Ok(Message::Response { .. })));
        let code = |text: &str| read(text).err().map(|answer| answer["error"]["code"].clone());
        assert_eq!(code("{"), Some(json!(Failure::PARSE)));
        assert_eq!(code("[]"), Some(json!(Failure::INVALID_REQUEST)));
        assert_eq!(code(r#"{"id":3}"#), Some(json!(Failure::INVALID_REQUEST)));
        assert_eq!(read(r#"{"id":3,"method":4}"#).err().map(|answer| answer["id"].clone()), Some(json!(3)));
    }
}
