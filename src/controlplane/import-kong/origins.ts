/** Where the parts of a translated configuration stood in the file that it was translated from. */
import type { DocumentPath } from '../load-issue.js'

export class Origins {
  private readonly objects = new WeakMap<object, DocumentPath>()
  private readonly fields = new WeakMap<object, Map<string | number, DocumentPath>>()

  /** `made` stands for what is at `path`: so do fields of it that have the same name there. */
  of<T extends object>(path: DocumentPath, made: T): T {
    this.objects.set(made, path)
    return made
  }

  /** Field `name` of `made` stands for what is at `path`. */
  field(made: object, name: string | number, path: DocumentPath): void {
    let fields = this.fields.get(made)
    if (fields === undefined) {
      fields = new Map()
      this.fields.set(made, fields)
    }
    fields.set(name, path)
  }

  /** The place in the file of `path` in the translation that begins at `root`. */
  find(root: unknown, path: DocumentPath): DocumentPath {
    let value = root
    let origin: DocumentPath = []
    for (const part of path) {
      const isObject = typeof value === 'object' && value !== null
      const field = isObject ? this.fields.get(value as object)?.get(part) : undefined
      const next: unknown = isObject ? Reflect.get(value as object, part) : undefined
      const own = typeof next === 'object' && next !== null ? this.objects.get(next) : undefined
      // What was not moved keeps its name below the place of what holds it.
      if (own !== undefined) origin = own
      else if (field !== undefined) origin = field
      else if (isObject && this.objects.has(value as object)) origin = [...origin, part]
      else if (!isObject || this.isCopied(value as object)) origin = [...origin, part]
      value = next
    }
    return origin
  }

  /** Objects that translations made and that stand for no single place are listed; all others came from the file as they are. */
  private readonly made = new WeakSet<object>()

  /** `made` has no place of its own: what is wrong with it is shown at the nearest place above. */
  none<T extends object>(made: T): T {
    this.made.add(made)
    return made
  }

  private isCopied(value: object): boolean {
    return !this.made.has(value)
  }
}
