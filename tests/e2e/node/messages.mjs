// Anthropic's official Node client against the gateway. Usage: node messages.mjs SCENARIO GATEWAY_URL ALIAS
// Prints what the scenario saw as one JSON object; the tests compare it.
import Anthropic from "@anthropic-ai/sdk";
import { failure } from "./failure.mjs";

const [scenario, gateway, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL: gateway, apiKey: "dummy", maxRetries: 0 });
const asked = { model, max_tokens: 4096, messages: [{ role: "user", content: "Say hello" }] };
const weather = {
  name: "get_weather",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const question = { role: "user", content: 'call get_weather with {"city": "Paris"}' };
const text = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

const scenarios = {
  async create() {
    const { data, request_id } = await client.messages.create(asked).withResponse();
    return {
      content: text(data),
      stop_reason: data.stop_reason,
      model: data.model,
      output_tokens: data.usage.output_tokens,
      request_id: request_id !== null && data._request_id === request_id,
    };
  },

  async stream() {
    const words = [];
    const stream = client.messages.stream(asked).on("text", (delta) => words.push(delta));
    const message = await stream.finalMessage();
    return {
      content: text(message),
      pieces: words.join("") === text(message),
      stop_reason: message.stop_reason,
      output_tokens: message.usage.output_tokens,
    };
  },

  async tools() {
    const tools = [weather];
    const first = await client.messages.stream({ ...asked, tools, messages: [question] }).finalMessage();
    const call = first.content.find((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: call.id, content: "21 degrees" };
    const messages = [question, { role: "assistant", content: first.content }, { role: "user", content: [result] }];
    const second = await client.messages.create({ ...asked, tools, messages });
    return { stop_reason: first.stop_reason, input: call.input, content: text(second) };
  },

  async thinking() {
    const thinking = { type: "enabled", budget_tokens: 2048 };
    const message = await client.messages.stream({ ...asked, thinking }).finalMessage();
    return { blocks: message.content.map((block) => block.type), content: text(message) };
  },

  async count() {
    const { max_tokens, ...counted } = asked;
    return await client.messages.countTokens(counted);
  },

  async models() {
    const found = [];
    for await (const one of client.models.list()) found.push([one.type, one.id]);
    return { found };
  },

  async error() {
    return failure(() => client.messages.create(asked));
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
