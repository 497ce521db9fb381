/** Options of files that write `null` for what is not set: every one of them may be null, and null means unset. */
import type { TLiteral, TNull, TOptional, TSchema, TUnion } from '@sinclair/typebox'
import { Type } from '@sinclair/typebox'

/** `schema` or null. The description belongs here, not to `schema`: reference pages read the outer one. */
export function nullable<T extends TSchema>(
  schema: T,
  options: { readonly description: string; readonly default?: unknown },
): TOptional<TUnion<[T, TNull]>> {
  return Type.Optional(Type.Union([schema, Type.Null()], { ...options }))
}

/** One of `values`, or null. Literals, because defaults are filled into unions by a checker that knows no other kind of enum. */
export function nullableOneOf<const V extends string>(
  values: readonly V[],
  options: { readonly description: string; readonly default?: V },
): TOptional<TUnion<(TLiteral<V> | TNull)[]>> {
  return Type.Optional(Type.Union([...values.map((value) => Type.Literal(value)), Type.Null()], { ...options }))
}
