/** Where the lines of the access log go: a file opened for appending, or standard output. Writes are asynchronous. */
import { close, open, openSync, write } from 'node:fs'
import { UsageError } from '../base/errors.js'

export interface LogSink {
  /** Bytes up to which one write is not mixed with writes of other threads: chunks are cut to this size. */
  readonly atomicBytes: number
  /** Writes some or all of `bytes`, which must stay untouched until `done`. One at a time. */
  write(bytes: Uint8Array, done: (error: NodeJS.ErrnoException | null, written: number) => void): void
  /** Opens the same path anew (after a rotation) and closes the old file; keeps the old one on error. Not during a write. */
  reopen(done: (error: Error | null) => void): void
  /** Not during a write. */
  close(done: () => void): void
}

const FILE_CHUNK_BYTES = 64 * 1024

/** POSIX PIPE_BUF on Linux: what a pipe takes in one piece. */
const PIPE_CHUNK_BYTES = 4096

/** New log files are for the owner and its group, not for everybody: they hold addresses and URLs. */
const FILE_MODE = 0o640

/** Opens `path` for appending, and creates it. Throws a UsageError that names it when that fails. */
export function openFileSink(path: string): LogSink {
  let descriptor: number
  try {
    descriptor = openSync(path, 'a', FILE_MODE)
  } catch (error) {
    throw new UsageError(`access log ${path} cannot be opened for appending: ${error instanceof Error ? error.message : String(error)}`)
  }
  return {
    atomicBytes: FILE_CHUNK_BYTES,
    write: (bytes, done) => write(descriptor, bytes, done),
    reopen(done) {
      open(path, 'a', FILE_MODE, (error, fresh) => {
        if (error !== null) {
          done(error)
          return
        }
        const old = descriptor
        descriptor = fresh
        close(old, () => done(null))
      })
    },
    close: (done) => close(descriptor, () => done()),
  }
}

/** Standard output of the process. There is nothing to reopen, and it stays open. */
export function openStdoutSink(): LogSink {
  return {
    atomicBytes: PIPE_CHUNK_BYTES,
    write: (bytes, done) => write(1, bytes, done),
    reopen: (done) => done(null),
    close: (done) => done(),
  }
}
