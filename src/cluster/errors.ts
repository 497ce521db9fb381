/** Why a call to Redis gave no answer that can be used. Texts hold neither keys nor secrets. */

export type RedisFailureReason =
  /** No answer within the deadline. */
  | 'deadline'
  /** Not asked: Redis failed repeatedly a moment ago. */
  | 'circuit-open'
  /** Not asked: too many calls are waiting already. */
  | 'busy'
  /** No connection, or it broke before the answer. */
  | 'connection'
  /** An error reply: loading, read-only, out of memory, no permission, a script error. */
  | 'reply'
  /** The client was closed. */
  | 'closed'

export class RedisFailure extends Error {
  override readonly name = 'RedisFailure'
  constructor(
    readonly reason: RedisFailureReason,
    message: string,
  ) {
    super(message)
  }
}
