//! [pure] The JSON Schema of the language, for editors, made from the table of keys.

use crate::policy::document::{Field, Key, Shape};
use crate::policy::schema::RawPolicy;
use serde_json::{Map, Value as Json, json};

/// The schema of a policy file.
pub fn json_schema() -> Json {
    let mut schema = of_shape(&RawPolicy::shape());
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Cofferdam policy");
    schema["required"] = json!(["schema"]);
    schema
}

fn of_shape(shape: &Shape) -> Json {
    match shape {
        Shape::One(schema) => schema.clone(),
        Shape::List(element) => json!({ "type": "array", "items": of_shape(element) }),
        Shape::Map(value, names) => json!({
            "type": "object",
            "additionalProperties": value,
            "propertyNames": { "pattern": names },
        }),
        Shape::Table(keys) => {
            let properties: Map<String, Json> = keys.iter().map(of_key).collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
    }
}

fn of_key(key: &Key) -> (String, Json) {
    let mut schema = of_shape(&key.shape);
    let words: Vec<&str> = key.about.split_whitespace().collect();
    schema["description"] = json!(words.join(" "));
    (key.name.to_owned(), schema)
}
