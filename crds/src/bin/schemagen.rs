//! Prints the JSON Schema of the evidence of drills.

fn main() -> Result<(), serde_json::Error> {
    println!("{}", serde_json::to_string_pretty(&durable_write_crds::evidence::json_schema())?);
    Ok(())
}
