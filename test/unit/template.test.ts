// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are templates of ours, not of JavaScript
import { describe, expect, test } from 'vitest'
import { compileTemplate } from '../../src/dataplane/vars/template.js'
import { templateProblem } from '../../src/schema/template.js'
import { fakeExchange } from '../support/fake-exchange.js'

const exchange = fakeExchange({ target: '/p?x=1&y=a%20b', headers: { 'X-User-Id': 'u7' } })

function render(text: string, captures?: (string | undefined)[]): string {
  return compileTemplate(text, { captures: captures !== undefined })(exchange, captures ?? null)
}

describe('templates', () => {
  test.each([
    ['', ''],
    ['plain', 'plain'],
    ['$arg_x', '1'],
    ['a${arg_y}b', 'aa bb'],
    ['$http_x_user_id-$arg_x', 'u7-1'],
    ['[${arg_none}]', '[]'],
    ['${arg_none ?? fallback}', 'fallback'],
    ['${arg_x ?? fallback}', '1'],
    ['${ arg_none ?? }', ''],
    ['\\$arg_x', '$arg_x'],
    ['cost: 5$', 'cost: 5$'],
    ['$$arg_x', '$1'],
    ['${unclosed', '${unclosed'],
    ['$unknown_name.', '.'],
    ['$1', ''],
  ])('%s', (text, expected) => {
    expect(render(text)).toBe(expected)
  })

  test('captures', () => {
    expect(render('/$2/$1/${0}/$9$arg_x', ['all', 'one', 'two'])).toBe('/two/one/all/1')
    expect(render('$10', ['all', 'one'])).toBe('one0')
    expect(render('$1', ['all', undefined])).toBe('')
  })

  test('variables that need the body are refused by name', () => {
    expect(templateProblem('x ${post_arg.a.b}')).toContain("'post_arg.a.b' needs the request body: not supported yet")
    expect(templateProblem('$graphql_name')).toContain('not supported yet')
    expect(templateProblem('$uri')).toBeNull()
  })
})
