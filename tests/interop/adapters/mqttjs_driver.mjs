// MQTT.js at the end of a pipe: one JSON object a line in both directions.
//
// In:  {"call": 7, "client": "a", "do": "publish", ...}   `do` is a name in DEEDS.
// Out: {"call": 7, "result": {...}} or {"call": 7, "error": "...", "code": 135}, once for every call;
//      {"client": "a", "event": "message", ...} and {"client": "a", "event": "close", "reasonCode": ...}.
// Bytes (payloads, correlation data) travel in base64.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import mqtt from 'mqtt'

const clients = new Map()

const say = (object) => process.stdout.write(JSON.stringify(object) + '\n')
const toBytes = (base64) => Buffer.from(base64, 'base64')

function bytesIn (properties) {
  if (properties?.correlationData === undefined) return properties
  return { ...properties, correlationData: toBytes(properties.correlationData) }
}

function bytesOut (properties) {
  if (properties?.correlationData === undefined) return properties ?? {}
  return { ...properties, correlationData: properties.correlationData.toString('base64') }
}

function watch (name, client) {
  let reasonCode = null
  client.on('message', (topic, payload, { qos, retain, properties }) => say({
    client: name, event: 'message', topic, payload: payload.toString('base64'), qos, retain,
    properties: bytesOut(properties)
  }))
  client.on('disconnect', (packet) => { reasonCode = packet.reasonCode ?? 0 })
  client.on('close', () => say({ client: name, event: 'close', reasonCode }))
}

function connect ({ client: name, url, authority, will, options }, done) {
  const client = mqtt.connect(url, {
    ...options,
    reconnectPeriod: 0,
    resubscribe: false,
    ...(authority && { ca: readFileSync(authority) }),
    ...(will && { will: { ...will, payload: toBytes(will.payload), properties: bytesIn(will.properties) } })
  })
  clients.set(name, client)
  watch(name, client)
  client.once('error', (failure) => done(failure))
  client.once('connect', ({ sessionPresent, properties }) => done(null, { sessionPresent, properties }))
}

function subscribe ({ client, filter, options }, done) {
  clients.get(client).subscribe(filter, options, (failure, granted) =>
    done(failure, { reasonCode: granted?.[0]?.qos }))
}

function unsubscribe ({ client, filter }, done) {
  clients.get(client).unsubscribe(filter, (failure, packet) =>
    done(failure, { reasonCode: packet?.granted?.[0] ?? packet?.reasonCodes?.[0] ?? null }))
}

function publish ({ client, topic, payload, options }, done) {
  const { properties, ...flags } = options
  const bytes = toBytes(payload)
  clients.get(client).publish(topic, bytes, { ...flags, properties: bytesIn(properties) }, (failure, packet) =>
    done(failure, { reasonCode: packet?.reasonCode ?? null }))
}

function close ({ client: name }, done) {
  const client = clients.get(name)
  clients.delete(name)
  if (client === undefined) return done(null, {})
  client.end(!client.connected, () => done(null, {}))
}

const DEEDS = { connect, subscribe, unsubscribe, publish, close }

createInterface({ input: process.stdin }).on('line', (line) => {
  const request = JSON.parse(line)
  let answered = false
  DEEDS[request.do](request, (failure, result) => {
    if (answered) return
    answered = true
    say(failure
      ? { call: request.call, error: failure.message, code: failure.code ?? null }
      : { call: request.call, result })
  })
}).on('close', () => process.exit(0))
