// A worker without a data path: speaks the protocol, reports every message it gets as a log line. `workerData.binding` says how it
// misbehaves: spare-dies, throws-at-start, listen-fails, ignores-close, dies-when-listening, exits-on-fault.
import { parentPort, workerData } from 'node:worker_threads'

let manner = workerData.binding
const listening = () => {
  const { index, accept, process: config } = workerData
  const descriptors = config.listeners.map((_, listener) => `app ${listener} of worker ${index}`)
  parentPort.postMessage({
    type: 'listening',
    ports: config.listeners.map((_, listener) => 40_000 + listener),
    ...(accept === 'primary' ? { descriptors } : {}),
  })
  if (manner === 'dies-when-listening') fail('it died when listening')
}
const fail = (text) => {
  parentPort.postMessage({ type: 'failed', message: text, stack: 'a stack' })
  // A child application waits until the primary has let go of it.
  if (workerData.accept !== 'primary') setImmediate(() => process.exit(1))
}

if (manner === 'throws-at-start') throw new Error('it does not load')

parentPort.on('message', (message) => {
  parentPort.postMessage({
    type: 'log',
    level: 'info',
    message: message.type,
    fields: { index: workerData.index, message: summary(message) },
  })
  switch (message.type) {
    case 'assign':
      Object.assign(workerData, message.start)
      manner = workerData.binding
      parentPort.postMessage({ type: 'ready' })
      break
    case 'snapshot':
      if (workerData.replacement) listening()
      break
    case 'listen':
      if (manner === 'listen-fails') parentPort.postMessage({ type: 'listen-failed', address: '127.0.0.1:1', reason: 'refused' })
      else listening()
      break
    case 'drain':
      if (manner !== 'never-drained') parentPort.postMessage({ type: 'drained' })
      break
    case 'fault':
      if (manner === 'exits-on-fault') process.exit(4)
      fail('a fault was injected')
      break
    case 'close':
      if (manner !== 'ignores-close') process.exit(0)
      break
  }
})
if (workerData.index >= 0) parentPort.postMessage({ type: 'ready' })
else if (manner === 'spare-dies') process.exit(3)
else parentPort.postMessage({ type: 'spare' })

function summary(message) {
  return { epoch: message.epoch ?? 0, ports: message.ports ?? null, updates: message.updates ?? null }
}
