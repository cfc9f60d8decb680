#!/bin/bash
# Deletes an estate, after asking. What may be the only copy of something stays, and is named at the end: queues, a final snapshot, keys.
set -euo pipefail
stack=$1
aws=${AWS:-aws}

output() { "$aws" cloudformation describe-stacks --stack-name "$stack" --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text; }

cluster=$(output ClusterIdentifier)
queue=$(output QueueUrl)
dead=$(output DeadLetterQueueUrl)
for url in "$queue" "$dead"; do
  left=$("$aws" sqs get-queue-attributes --queue-url "$url" --attribute-names ApproximateNumberOfMessages --query Attributes.ApproximateNumberOfMessages --output text)
  echo "$url has about $left messages."
done
if [ "${CONFIRM:-}" != "$stack" ]; then
  read -r -p "This deletes the Aurora cluster $cluster and all of $stack but what is named above. Type the name of the stack to go on: " answer
  [ "$answer" = "$stack" ] || { echo "Nothing was deleted."; exit 1; }
fi
"$aws" rds modify-db-cluster --db-cluster-identifier "$cluster" --no-deletion-protection --apply-immediately >/dev/null
"$aws" cloudformation update-termination-protection --no-enable-termination-protection --stack-name "$stack" >/dev/null
"$aws" cloudformation delete-stack --stack-name "$stack"
"$aws" cloudformation wait stack-delete-complete --stack-name "$stack"
cat <<TEXT
Deleted. These stay, and cost little; delete them when nothing in them is needed:
  aws sqs delete-queue --queue-url $queue
  aws sqs delete-queue --queue-url $dead
  aws rds describe-db-cluster-snapshots --db-cluster-identifier $cluster --snapshot-type manual   # the last state; delete-db-cluster-snapshot
  aws kms list-keys                                                                               # the keys of snapshot and queues; schedule-key-deletion
TEXT
