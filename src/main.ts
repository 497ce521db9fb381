#!/usr/bin/env node
/** Entry point of the command `sluice`. */
import { runCommandLine } from './cli/program.js'

// Every command resolves only after its threads, servers and files are closed; leaving by `exit` then is safe, and keeps a forgotten
// timer of a library from holding the process.
process.exit(await runCommandLine(process.argv.slice(2)))
