/** What was changed in maps, sets and lists, so that it can be taken back: a change that turns out wrong leaves no trace. */
export class UndoLog {
  private steps: (() => void)[] = []
  private isOff = false

  /** One that notes nothing. */
  static off(): UndoLog {
    const log = new UndoLog()
    log.isOff = true
    return log
  }

  set<Id, Value>(map: Map<Id, Value>, id: Id, value: Value): void {
    if (this.isOff) {
      map.set(id, value)
      return
    }
    const before = map.get(id)
    const wasThere = before !== undefined || map.has(id)
    map.set(id, value)
    this.steps.push(wasThere ? () => map.set(id, before as Value) : () => map.delete(id))
  }

  delete<Id, Value>(map: Map<Id, Value>, id: Id): void {
    if (!map.has(id)) return
    const before = map.get(id) as Value
    map.delete(id)
    if (!this.isOff) this.steps.push(() => map.set(id, before))
  }

  include<Id>(set: Set<Id>, id: Id): void {
    if (set.has(id)) return
    set.add(id)
    if (!this.isOff) this.steps.push(() => set.delete(id))
  }

  exclude<Id>(set: Set<Id>, id: Id): void {
    if (set.delete(id) && !this.isOff) this.steps.push(() => set.add(id))
  }

  assign<Value>(list: Value[], index: number, value: Value): void {
    const { length } = list
    const before = list[index] as Value
    list[index] = value
    this.steps.push(() => {
      list[index] = before
      list.length = length
    })
  }

  push<Value>(list: Value[], value: Value): void {
    this.assign(list, list.length, value)
  }

  pop<Value>(list: Value[]): Value | undefined {
    const { length } = list
    if (length === 0) return undefined
    const value = list.pop() as Value
    this.steps.push(() => list.push(value))
    return value
  }

  /** Takes everything back, the last change first. */
  rollBack(): void {
    for (const step of this.steps.reverse()) step()
    this.steps = []
  }

  /** What was changed stays. */
  commit(): void {
    this.steps = []
  }
}
