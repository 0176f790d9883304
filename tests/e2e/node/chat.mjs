// The official Node client against the gateway. Usage: node chat.mjs SCENARIO GATEWAY_URL ALIAS
// Prints what the scenario saw as one JSON object; the tests compare it.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { failure } from "./failure.mjs";

const [scenario, gateway, model] = process.argv.slice(2);
const baseURL = `${gateway}/v1`;
const client = new OpenAI({ baseURL, apiKey: "dummy", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello" }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

const scenarios = {
  async create() {
    const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
    return {
      content: data.choices[0].message.content,
      finish_reason: data.choices[0].finish_reason,
      model: data.model,
      tokens: data.usage.total_tokens - data.usage.prompt_tokens,
      request_id: data._request_id === response.headers.get("x-request-id"),
    };
  },

  async stream() {
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: { include_usage: true },
    });
    const seen = { content: "", finish_reasons: [], usages: 0, completion_tokens: null, cost_usd: null };
    for await (const chunk of stream) {
      for (const choice of chunk.choices) {
        seen.content += choice.delta.content ?? "";
        if (choice.finish_reason) seen.finish_reasons.push(choice.finish_reason);
      }
      if (chunk.usage) {
        seen.usages += 1;
        seen.completion_tokens = chunk.usage.completion_tokens;
        seen.cost_usd = chunk.usage.cost_usd;
      }
    }
    return seen;
  },

  async stop_reading() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) break; // the client aborts the request
    }
    return {};
  },

  // The client's own loop: it calls the function and sends the result until the model is content.
  async tools() {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model,
      messages: [{ role: "user", content: 'call get_weather with {"city": "Paris"}' }],
      tools: [
        {
          type: "function",
          function: { ...weather.function, parse: JSON.parse, function: (given) => (asked.push(given), "21 degrees") },
        },
      ],
    });
    return { content: await runner.finalContent(), asked };
  },

  async streamed_tools() {
    const stream = client.chat.completions.stream({
      model,
      messages: [{ role: "user", content: 'call get_weather with {"city": "Paris"}' }],
      tools: [weather],
    });
    const answer = await stream.finalChatCompletion();
    return {
      finish_reason: answer.choices[0].finish_reason,
      calls: answer.choices[0].message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
    };
  },

  async parse() {
    const person = z.object({ name: z.string(), age: z.number().int() });
    const answer = await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(person, "person") });
    return answer.choices[0].message.parsed;
  },

  async models() {
    const names = [];
    for await (const found of client.models.list()) names.push(found.id);
    return { names };
  },

  async error() {
    return failure(() => client.chat.completions.create({ model, messages }));
  },

  async stream_error() {
    return failure(async () => {
      const stream = await client.chat.completions.create({ model, messages, stream: true });
      for await (const _ of stream);
    });
  },

  async bad_request() {
    return failure(() => client.chat.completions.create({ model, messages: [] }));
  },

  // The client's default of two retries: the gateway must be able to talk it out of them.
  async error_with_retries() {
    const retrying = new OpenAI({ baseURL, apiKey: "dummy" });
    return failure(() => retrying.chat.completions.create({ model, messages }));
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
