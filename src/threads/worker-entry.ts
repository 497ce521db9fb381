/**
 * What a worker thread runs: `worker.js`, at once or, for a spare, when it is needed.
 *
 * Nine tenths of the time in which a failed worker is missing would go into starting a thread and loading modules. A spare has done
 * both; it waits for `assign`, takes the place that it names, and only then starts to be a worker.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { spareIndex, type ToWorker, type WorkerStart } from './protocol.js'

/** The same object that `worker.js` reads. */
const start = workerData as WorkerStart

if (start.index === spareIndex) {
  await preload()
  Object.assign(start, await assignment())
}
await import('./worker.js')

/** Loads what `worker.js` imports; none of these modules does anything by being loaded. */
async function preload(): Promise<void> {
  const [{ loadBinding }, { loadUserPlugins }] = await Promise.all([
    import('../dataplane/listener/binding.js'),
    import('../plugins/user-plugins.js'),
    import('../plugins/index.js'),
    import('../dataplane/listener/listener.js'),
    import('../dataplane/breakers/worker-breakers.js'),
    import('../dataplane/limits/worker-limits.js'),
    import('../dataplane/link-kit.js'),
    import('../dataplane/proxy.js'),
    import('../dataplane/snapshot.js'),
    import('../dataplane/upstream/pool-registry.js'),
    import('../telemetry/access-log.js'),
    import('./accounts.js'),
    import('./limit-stores.js'),
    import('./rate-limited-log.js'),
  ])
  loadBinding(start.binding)
  await loadUserPlugins(start.process.plugins)
}

/** Says that the spare is there, and waits. Messages behind the assignment stay in the port for `worker.js`. */
function assignment(): Promise<WorkerStart> {
  return new Promise((resolve) => {
    const receive = (message: ToWorker) => {
      if (message.type === 'close') process.exit(0)
      if (message.type !== 'assign') return
      parentPort?.off('message', receive)
      resolve(message.start)
    }
    parentPort?.on('message', receive)
    parentPort?.postMessage({ type: 'spare' })
  })
}
