// The usual way in Node.js from SQS to PostgreSQL: eight consumers, batches of ten, one INSERT … ON CONFLICT DO NOTHING for each batch.
import { readFileSync } from "node:fs";
import { GetQueueUrlCommand, SQSClient } from "@aws-sdk/client-sqs";
import pg from "pg";
import { Consumer } from "sqs-consumer";

const CONSUMERS = 8;
// The region, the endpoint and the credentials come from the AWS_ variables, the database from the PG ones.
const sqs = new SQSClient({});
const pool = new pg.Pool({ max: CONSUMERS, ssl: { ca: readFileSync(process.env.DATABASE_CA, "utf8") } });

async function write(messages) {
  const values = [];
  const rows = messages.map(({ Body: body }) => {
    const order = JSON.parse(body);
    const places = [order.id, order.group, order.amount, body].map((value) => `$${values.push(value)}`);
    return `(${places})`;
  });
  const text = `INSERT INTO shop.orders (id, customer, amount, payload) VALUES ${rows} ON CONFLICT DO NOTHING`;
  await pool.query({ name: `${rows.length} rows`, text, values });
  return messages;
}

const { QueueUrl: queueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: process.env.QUEUE_NAME }));
for (let number = 0; number < CONSUMERS; number += 1) {
  const consumer = Consumer.create({ sqs, queueUrl, batchSize: 10, visibilityTimeout: 60, suppressFifoWarning: true, handleMessageBatch: write });
  consumer.on("error", (error) => console.error(error));
  consumer.on("processing_error", (error) => console.error(error));
  consumer.start();
}
