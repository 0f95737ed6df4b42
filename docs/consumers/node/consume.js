// Prints each event of topics once: consume.js TOPIC...
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import kafkajs from 'kafkajs'

const { Kafka, logLevel } = kafkajs

const { BROKERS = 'localhost:9094', GROUP = 'fhir-cdc-example', SEEN = 'seen.txt' } = process.env

// The id is in a header, else the value's member id.
const eventId = ({ headers, value }) => (headers.ce_id ?? headers.event_id)?.toString() ?? JSON.parse(value).id

// The ids of the events that were printed.
const seen = new Set(existsSync(SEEN) ? readFileSync(SEEN, 'utf8').split('\n') : [])

const kafka = new Kafka({ brokers: BROKERS.split(','), logLevel: logLevel.ERROR })
// readUncommitted is false unless it is set.
const consumer = kafka.consumer({ groupId: GROUP, readUncommitted: false })

await consumer.connect()
await consumer.subscribe({ topics: process.argv.slice(2), fromBeginning: true })
await consumer.run({
  // The offset is committed after it has returned.
  eachMessage: async ({ topic, message }) => {
    const id = eventId(message)
    if (seen.has(id)) return
    console.log(`${topic}\t${id}\t${message.value}`)
    seen.add(id)
    appendFileSync(SEEN, id + '\n')
  },
})
process.once('SIGINT', () => consumer.disconnect())
