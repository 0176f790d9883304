// The official Node client's Responses and embeddings. Usage: node responses.mjs SCENARIO GATEWAY_URL ALIAS
// Prints what the scenario saw as one JSON object; the tests compare it.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { failure } from "./failure.mjs";

const [scenario, gateway, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${gateway}/v1`, apiKey: "dummy", maxRetries: 0 });
const input = "Say hello";
const tools = [
  {
    type: "function",
    name: "get_weather",
    strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

const scenarios = {
  async create() {
    const { data } = await client.responses.create({ model, input }).withResponse();
    return { content: data.output_text, status: data.status, model: data.model, tokens: data.usage.output_tokens };
  },

  async stream() {
    let words = "";
    const stream = client.responses.stream({ model, input });
    stream.on("response.output_text.delta", (event) => (words += event.delta));
    const answer = await stream.finalResponse();
    return { content: answer.output_text, pieces: words === answer.output_text, status: answer.status };
  },

  async tools() {
    const asked = [{ role: "user", content: 'call get_weather with {"city": "Paris"}' }];
    const first = await client.responses.create({ model, input: asked, tools });
    const call = first.output.find((item) => item.type === "function_call");
    const result = { type: "function_call_output", call_id: call.call_id, output: "21 degrees" };
    const second = await client.responses.create({ model, input: [...asked, ...first.output, result], tools });
    return { arguments: JSON.parse(call.arguments), content: second.output_text };
  },

  async parse() {
    const person = z.object({ name: z.string(), age: z.number().int() });
    const answer = await client.responses.parse({ model, input, text: { format: zodTextFormat(person, "person") } });
    return answer.output_parsed;
  },

  async error() {
    return failure(() => client.responses.create({ model, input }));
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ["one", "two"] });
    return { lengths: answer.data.map((one) => one.embedding.length), tokens: answer.usage.prompt_tokens };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
