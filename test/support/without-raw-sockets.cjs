// Loaded in front of a gateway: a Node that no longer lets anybody see its TCP handles.
process.binding = (name) => {
  process.stderr.write(`no ${name} in this Node\n`)
  throw new Error(`No such module: ${name}`)
}
