//! JSON answers as CBOR, for whoever asks: the same values, in the deterministic form
//! (RFC 8949 §4.2.1 and §6.2).

use super::error::ApiError;
use super::limits::COLLECTED_BYTES;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use synod_core::cbor::Writer;

const CBOR: &str = "application/cbor";

/// Whether a request's `Accept` names this media type.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|accept| {
        accept.split(',').any(|range| {
            range.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case(media_type))
        })
    })
}

/// Turns an answer that is JSON into CBOR if the request accepts that.
pub(super) async fn negotiate(request: Request, next: Next) -> Result<Response, ApiError> {
    let wants_cbor = accepts(request.headers(), CBOR);
    let answer = next.run(request).await;
    let is_json = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|it| it.to_str().is_ok_and(|it| it.starts_with("application/json")));
    if !(wants_cbor && is_json) {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let internal = |error: String| {
        ApiError::new(
            "internal",
            format!("the answer cannot be told as CBOR: {error}; ask for JSON"),
        )
    };
    // Every object that is answered was bounded when it was made.
    let json = to_bytes(body, 2 * COLLECTED_BYTES).await.map_err(|e| internal(e.to_string()))?;
    let value = serde_json::from_slice(&json).map_err(|e| internal(e.to_string()))?;
    let mut w = Writer::new();
    write(&value, &mut w);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CBOR));
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(w.into_vec())))
}

/// Recursive: `serde_json` has read the value, and reads no deeper than 128.
fn write(value: &Value, w: &mut Writer) {
    match value {
        Value::Null => _ = w.null(),
        Value::Bool(b) => _ = w.bool(*b),
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => _ = w.uint(n),
            (None, Some(n)) => _ = w.int(n),
            (None, None) => _ = w.float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => _ = w.text(text),
        Value::Array(items) => {
            w.array(items.len());
            items.iter().for_each(|item| write(item, w));
        }
        Value::Object(object) => {
            // The order of the encoded keys is that of their lengths, then of their bytes.
            let mut pairs: Vec<_> = object.iter().collect();
            pairs.sort_by_key(|(key, _)| (key.len(), *key));
            w.map(pairs.len());
            for (key, value) in pairs {
                w.text(key);
                write(value, w);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_becomes_deterministic_cbor() {
        let mut w = Writer::new();
        write(&json!({"bb": [1, -2, 1.5, null], "c": "é", "a": {"x": true}}), &mut w);
        let mut wanted = Writer::new();
        wanted.map(3).text("a").map(1).text("x").bool(true).text("c").text("é");
        wanted.text("bb").array(4).uint(1).int(-2).float(1.5).null();
        assert_eq!(w.into_vec(), wanted.into_vec());
    }

    #[test]
    fn accept_is_a_list_of_ranges() {
        let mut headers = HeaderMap::new();
        assert!(!accepts(&headers, CBOR));
        let value = HeaderValue::from_static("text/html, Application/CBOR;q=0.5");
        headers.append(header::ACCEPT, value);
        assert!(accepts(&headers, CBOR));
        assert!(!accepts(&headers, "application/json"));
    }
}
