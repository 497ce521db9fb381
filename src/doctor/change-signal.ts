/** Waits for a condition that sockets bring about: looked at again on every event, never polled, always with a deadline. */
export class ChangeSignal {
  private readonly waiting = new Set<() => void>()

  /** Something changed: every waiter looks at its condition again. */
  notify(): void {
    for (const look of [...this.waiting]) look()
  }

  /** True once `condition` holds, false when it did not within `timeoutMs`. */
  holds(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    if (condition()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        clearTimeout(timer)
        this.waiting.delete(look)
        resolve(result)
      }
      const look = (): void => {
        if (condition()) finish(true)
      }
      const timer = setTimeout(() => finish(condition()), timeoutMs)
      this.waiting.add(look)
    })
  }

  /** Like `holds`, but a deadline that passes is an error that names `what`. */
  async until(condition: () => boolean, timeoutMs: number, what: string): Promise<void> {
    if (!(await this.holds(condition, timeoutMs))) throw new Error(`${what} did not happen within ${timeoutMs} ms`)
  }
}
