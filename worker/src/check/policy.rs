//! The IAM policy that a pipeline's workers need.

use aws_config::SdkConfig;
use durable_write_crds::DurableWritePipelineSpec;
use durable_write_crds::pipeline::Queue;
use serde_json::{Value, json};

use crate::database::access::Access;

/// Stands for what is not known.
const REGION: &str = "REGION";
const ACCOUNT: &str = "ACCOUNT";
const RESOURCE_ID: &str = "RESOURCE_ID_OF_THE_CLUSTER";

/// What the policy is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) queue: QueueFacts,
    pub(super) dead_letter_queue: QueueFacts,
}

/// A queue, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueFacts {
    pub(super) name: String,
    /// With placeholders where it could not be asked for.
    pub(super) arn: String,
    /// The key of KMS that it is encrypted with.
    pub(super) key: Option<String>,
}

/// A user of the database that logs in by IAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseUser {
    username: String,
    region: String,
    resource_id: String,
    /// The queue is of the workers' own account, in which the database is.
    account_of_queue: bool,
}

impl DatabaseUser {
    /// None where the login is by a password.
    pub(super) fn of(spec: &DurableWritePipelineSpec, access: &Access, aws: &SdkConfig) -> Option<Self> {
        let iam = spec.database.credentials.iam.as_ref()?;
        Some(Self {
            username: iam.username.clone(),
            region: aws.region().map_or(REGION, |region| region.as_ref()).to_owned(),
            resource_id: access.servers().ok().and_then(|servers| servers.resource_id).unwrap_or_else(|| RESOURCE_ID.to_owned()),
            account_of_queue: spec.queue.arn.is_none(),
        })
    }

    fn arn(&self, queue: &QueueFacts) -> String {
        let mut parts = queue.arn.split(':');
        let partition = parts.nth(1).unwrap_or("aws");
        let account = parts.nth(2).filter(|_| self.account_of_queue).unwrap_or(ACCOUNT);
        format!("arn:{partition}:rds-db:{}:{account}:dbuser:{}/{}", self.region, self.resource_id, self.username)
    }
}

impl QueueFacts {
    pub(super) fn of_arn(arn: &str) -> Self {
        Self { name: arn.rsplit(':').next().unwrap_or(arn).to_owned(), arn: arn.to_owned(), key: None }
    }

    fn of_name(name: &str) -> Self {
        Self { name: name.to_owned(), arn: format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"), key: None }
    }
}

impl Facts {
    /// What the manifest alone says.
    pub(super) fn of_manifest(reference: &Queue) -> Self {
        let facts = |arn: &Option<String>, name: &str| arn.as_deref().map_or_else(|| QueueFacts::of_name(name), QueueFacts::of_arn);
        Self {
            queue: facts(&reference.arn, reference.queue_name()),
            dead_letter_queue: match &reference.dead_letter_queue {
                Some(queue) => facts(&queue.arn, queue.queue_name()),
                None => QueueFacts::of_name("DEAD_LETTER_QUEUE"),
            },
        }
    }
}

/// The least policy: read and delete on the queue, send on the dead-letter queue, the keys of both, and the login to the database. The probe of
/// drills runs under the same identity and sends to the queue.
pub(super) fn policy(facts: &Facts, user: Option<&DatabaseUser>, drills: bool) -> Value {
    let mut actions =
        vec!["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"];
    let mut key_actions = vec!["kms:Decrypt"];
    if drills {
        actions.push("sqs:SendMessage");
        key_actions.push("kms:GenerateDataKey");
    }
    let mut statements = vec![
        allow(&actions, &facts.queue.arn),
        allow(&["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SendMessage"], &facts.dead_letter_queue.arn),
    ];
    statements.extend(key_statement(&facts.queue, &key_actions));
    statements.extend(key_statement(&facts.dead_letter_queue, &["kms:GenerateDataKey", "kms:Decrypt"]));
    statements.extend(user.map(|user| allow(&["rds-db:connect"], &user.arn(&facts.queue))));
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The right to a queue's key. The key that AWS manages needs none, and can be given none.
fn key_statement(queue: &QueueFacts, actions: &[&str]) -> Option<Value> {
    let key = queue.key.as_deref().filter(|key| *key != "alias/aws/sqs")?;
    let mut parts = queue.arn.split(':').skip(3);
    let (region, account) = (parts.next()?, parts.next()?);
    if key.starts_with("arn:") {
        return Some(allow(actions, key));
    }
    if !key.starts_with("alias/") {
        return Some(allow(actions, &format!("arn:aws:kms:{region}:{account}:key/{key}")));
    }
    let mut statement = allow(actions, &format!("arn:aws:kms:{region}:{account}:key/*"));
    if let Some(fields) = statement.as_object_mut() {
        fields.insert("Condition".to_owned(), json!({"ForAnyValue:StringEquals": {"kms:ResourceAliases": key}}));
    }
    Some(statement)
}

fn allow(actions: &[&str], resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resource})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(key: Option<&str>) -> Facts {
        let mut queue = QueueFacts::of_arn("arn:aws:sqs:eu-west-1:123456789012:orders");
        queue.key = key.map(str::to_owned);
        Facts { queue, dead_letter_queue: QueueFacts::of_name("orders-dlq") }
    }

    #[test]
    fn the_policy_names_both_queues_and_the_least_rights() {
        let policy = policy(&facts(None), None, false);
        assert_eq!(policy["Statement"].as_array().unwrap().len(), 2);
        assert_eq!(policy["Statement"][0]["Resource"], "arn:aws:sqs:eu-west-1:123456789012:orders");
        assert_eq!(policy["Statement"][1]["Resource"], "arn:aws:sqs:REGION:ACCOUNT:orders-dlq");
        assert!(!policy["Statement"][0].to_string().contains("SendMessage"));
        assert!(!policy["Statement"][1].to_string().contains("ReceiveMessage"));
    }

    #[test]
    fn a_login_by_iam_is_allowed_for_one_user_of_one_cluster() {
        let user = |account_of_queue| DatabaseUser {
            username: "orders".to_owned(),
            region: "eu-west-1".to_owned(),
            resource_id: "cluster-ABC".to_owned(),
            account_of_queue,
        };
        let statement = |account_of_queue| policy(&facts(None), Some(&user(account_of_queue)), false)["Statement"][2].clone();
        assert_eq!(statement(true)["Action"], json!(["rds-db:connect"]));
        assert_eq!(statement(true)["Resource"], "arn:aws:rds-db:eu-west-1:123456789012:dbuser:cluster-ABC/orders");
        assert_eq!(statement(false)["Resource"], "arn:aws:rds-db:eu-west-1:ACCOUNT:dbuser:cluster-ABC/orders");
    }

    #[test]
    fn a_drills_probe_sends_to_the_queue_with_the_same_identity() {
        let policy = policy(&facts(Some("1234")), None, true);
        assert!(policy["Statement"][0].to_string().contains("sqs:SendMessage"));
        assert!(policy["Statement"][2].to_string().contains("kms:GenerateDataKey"));
    }

    #[test]
    fn an_encrypted_queue_needs_its_key() {
        let resource = |key| policy(&facts(Some(key)), None, false)["Statement"][2]["Resource"].clone();
        let arn = "arn:aws:kms:eu-west-1:999999999999:key/1234";
        assert_eq!(resource(arn), arn);
        assert_eq!(resource("1234"), "arn:aws:kms:eu-west-1:123456789012:key/1234");
        assert_eq!(resource("alias/aws/sqs"), Value::Null);
        let alias = policy(&facts(Some("alias/orders")), None, false);
        assert_eq!(alias["Statement"][2]["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"], "alias/orders");
    }
}
