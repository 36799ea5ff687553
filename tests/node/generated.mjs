// The same API by way of code that was generated beforehand (`npx buf generate`), over another implementation of gRPC:
//
//   node generated.mjs 127.0.0.1:8082 --model demo --key lr-...
//
// It streams a chat and prints what came as one JSON object.
import { parseArgs } from 'node:util';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { FinishReason } from './generated/longreach/v1/common_pb.js';
import { Inference } from './generated/longreach/v1/inference_pb.js';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { model: { type: 'string', default: 'demo' }, key: { type: 'string' } },
});

const client = createClient(Inference, createGrpcTransport({ baseUrl: `http://${positionals[0]}` }));
const stream = client.chatStream(
  {
    model: options.model,
    messages: [{ role: 'user', content: 'Count from one to a hundred, in words.' }],
    maxCompletionTokens: 24,
  },
  { headers: options.key === undefined ? {} : { authorization: `Bearer ${options.key}` }, timeoutMs: 120_000 },
);

const seen = { text: '', messages: 0, finish_reason: null, usage: null };
for await (const message of stream) {
  seen.messages += 1;
  for (const delta of message.deltas) {
    seen.text += delta.content;
    if (delta.finishReason !== FinishReason.UNSPECIFIED) {
      seen.finish_reason = FinishReason[delta.finishReason];
    }
  }
  if (message.usage) {
    seen.usage = { prompt_tokens: message.usage.promptTokens, completion_tokens: message.usage.completionTokens };
  }
}
process.stdout.write(`${JSON.stringify(seen)}\n`);
