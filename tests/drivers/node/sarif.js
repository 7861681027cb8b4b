// Holds SARIF logs, one a line, against the schema of SARIF 2.1.0.
'use strict'

const readline = require('node:readline')
const Ajv = require('ajv')
const schema = require('@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json')

const ajv = new Ajv({ schemaId: 'auto', allErrors: true, unknownFormats: [] })
ajv.addMetaSchema(require('ajv/lib/refs/json-schema-draft-04.json'))
const isValid = ajv.compile(schema)

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  console.log(isValid(JSON.parse(line)) ? 'valid' : ajv.errorsText(isValid.errors))
})
