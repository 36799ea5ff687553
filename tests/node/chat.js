// A Node client made of the stock parts, @grpc/proto-loader and @grpc/grpc-js, against any Longreach gateway:
//
//   node chat.js 127.0.0.1:8082 --model demo --key lr-... --protos ../../services/grpc/proto --details DIR
//
// It streams a chat, asks for one whole, leaves one under way, and is refused once; what came of each is printed as one
// JSON object. DIR has google/rpc/status.proto and error_details.proto, which say what an error's details look like.
'use strict';

const path = require('node:path');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const LONGEST_MS = 120_000; // a real model on two cores, in a queue
const RECEIVE_MAX_BYTES = 64 * 2 ** 20; // gRPC's own limit of 4 MiB is less than a long answer with logprobs
const DETAILS_KEY = 'grpc-status-details-bin';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: 'demo' },
    key: { type: 'string' },
    protos: { type: 'string', default: path.join(__dirname, '../../services/grpc/proto') },
    details: { type: 'string' },
  },
});

if (positionals.length !== 1 || options.details === undefined) {
  process.stderr.write('usage: node chat.js ADDRESS --details DIR [--model NAME] [--key KEY] [--protos DIR]\n');
  process.exit(2);
}

const definition = protoLoader.loadSync(
  ['longreach/v1/inference.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  // Names as the .proto files have them, 64-bit numbers as text, since a JavaScript number does not hold all of them.
  { includeDirs: [options.protos, options.details], keepCase: true, longs: String, enums: String, defaults: true },
);
const { Inference } = grpc.loadPackageDefinition(definition).longreach.v1;

function metadata() {
  const sent = new grpc.Metadata();
  if (options.key !== undefined) {
    sent.set('authorization', `Bearer ${options.key}`);
  }
  return sent;
}

function request(fields) {
  return {
    model: options.model,
    messages: [{ role: 'user', content: 'Count from one to a hundred, in words.' }],
    ...fields,
  };
}

function callOptions() {
  return { deadline: Date.now() + LONGEST_MS };
}

/** What an answer's initial metadata says of where the request went. */
function route(initial) {
  return Object.fromEntries(
    ['x-request-id', 'x-longreach-pool', 'x-longreach-replica', 'x-longreach-reason'].map((name) => [
      name,
      initial.get(name)[0],
    ]),
  );
}

/** A stream, read to its end; rejects with the status of one that broke off. */
function streamed(client) {
  return new Promise((resolve, reject) => {
    const seen = { text: '', messages: 0, finish_reason: null, usage: null };
    const call = client.ChatStream(request({ max_completion_tokens: 24 }), metadata(), callOptions());
    call.on('metadata', (initial) => Object.assign(seen, { route: route(initial) }));
    call.on('data', (message) => {
      seen.messages += 1;
      if (seen.messages === 1) {
        seen.id = message.id;
        seen.model = message.model;
      }
      for (const delta of message.deltas) {
        seen.text += delta.content;
        if (delta.finish_reason !== 'FINISH_REASON_UNSPECIFIED') {
          seen.finish_reason = delta.finish_reason;
        }
      }
      seen.usage = message.usage ?? seen.usage;
    });
    call.on('error', reject);
    call.on('end', () => resolve(seen));
  });
}

function whole(client) {
  return new Promise((resolve, reject) => {
    client.Chat(request({ max_completion_tokens: 24 }), metadata(), callOptions(), (error, answer) => {
      if (error) {
        reject(error);
        return;
      }
      const [choice] = answer.choices;
      resolve({ text: choice.message.content, finish_reason: choice.finish_reason, usage: answer.usage });
    });
  });
}

/** A stream that would go on for long, left after its first text: the gateway stops its engine. */
function left(client) {
  return new Promise((resolve, reject) => {
    let messages = 0;
    const call = client.ChatStream(
      request({ max_completion_tokens: 2000, ignore_eos: true }),
      metadata(),
      callOptions(),
    );
    call.on('data', () => {
      messages += 1;
      call.cancel();
    });
    call.on('error', (error) => {
      if (error.code === grpc.status.CANCELLED) {
        resolve({ code: grpc.status[error.code], messages });
      } else {
        reject(error);
      }
    });
    call.on('end', () => reject(new Error('the stream ended before it could be left')));
  });
}

/** A request with a value out of bounds: its status, with the details that google.rpc describes. */
function refused(client) {
  return new Promise((resolve, reject) => {
    client.Chat(request({ temperature: 3 }), metadata(), callOptions(), (error) => {
      if (!error) {
        reject(new Error('a temperature of 3 was taken'));
        return;
      }
      resolve({ code: grpc.status[error.code], message: error.details, details: detailsOf(error) });
    });
  });
}

function detailsOf(error) {
  const [packed] = error.metadata.get(DETAILS_KEY);
  if (packed === undefined) {
    return [];
  }
  const status = definition['google.rpc.Status'].deserialize(packed);
  return status.details.map(({ type_url: url, value }) => {
    const type = url.slice(url.lastIndexOf('/') + 1);
    return { type, ...definition[type].deserialize(value) };
  });
}

async function main() {
  const client = new Inference(positionals[0], grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': RECEIVE_MAX_BYTES,
  });
  try {
    const found = {};
    for (const step of [streamed, whole, left, refused]) {
      found[step.name] = await step(client);
    }
    process.stdout.write(`${JSON.stringify(found)}\n`);
  } finally {
    client.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
