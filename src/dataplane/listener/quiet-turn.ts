/**
 * The moment at which a listen socket can be closed with the least loss.
 *
 * The kernel resets connections that completed their handshake but were not accepted yet when their listen socket is closed. The
 * binding accepts all that wait whenever the event loop polls; what comes between that and the close is lost. So the close runs right
 * behind a poll, and only when the turn before it was so short that nothing else can have run in it; a busy loop is given some turns
 * to offer such a moment, then it is closed anyway. Nothing here can save a connection whose handshake is still under way: that takes
 * `net.ipv4.tcp_migrate_req` (docs/upgrade.md).
 */
import { nowMs } from '../../base/clock.js'

/** A turn with nothing to do takes 5 to 20 µs, one with a request takes more. */
const QUIET_TURN_MS = 0.03
const TURNS_MAX = 200

/** Runs `close` behind a short turn; resolves when it has run. */
export function atQuietTurn(close: () => void, clock: () => number = nowMs): Promise<void> {
  return new Promise((resolve) => {
    let turns = 0
    let lastMs = Number.NEGATIVE_INFINITY
    const turn = () => {
      const now = clock()
      if (now - lastMs > QUIET_TURN_MS && turns++ < TURNS_MAX) {
        lastMs = now
        setImmediate(turn)
        return
      }
      close()
      resolve()
    }
    setImmediate(turn)
  })
}
