// Google's official Node client against the gateway. Usage: node gemini.mjs SCENARIO GATEWAY_URL ALIAS
// Prints what the scenario saw as one JSON object; the tests compare it.
import { GoogleGenAI } from "@google/genai";

const [scenario, gateway, model] = process.argv.slice(2);
const { models, chats } = new GoogleGenAI({ apiKey: "dummy", httpOptions: { baseUrl: gateway } });
const asked = { model, contents: "Say hello", config: { maxOutputTokens: 200 } };
const weather = {
  name: "get_weather",
  parametersJsonSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const scenarios = {
  async create() {
    const answer = await models.generateContent(asked);
    return {
      content: answer.text,
      finish_reason: answer.candidates[0].finishReason,
      model: answer.modelVersion,
      output_tokens: answer.usageMetadata.candidatesTokenCount,
    };
  },

  async stream() {
    const texts = [];
    let tokens = 0;
    for await (const chunk of await models.generateContentStream(asked)) {
      texts.push(chunk.text);
      tokens = chunk.usageMetadata?.candidatesTokenCount ?? tokens;
    }
    return { content: texts.join(""), has_pieces: texts.length > 1, output_tokens: tokens };
  },

  async tools() {
    const chat = chats.create({ model, config: { tools: [{ functionDeclarations: [weather] }] } });
    const calls = [];
    for await (const chunk of await chat.sendMessageStream({ message: 'call get_weather with {"city": "Paris"}' })) {
      calls.push(...(chunk.functionCalls ?? []));
    }
    const [{ id, name, args }] = calls;
    const functionResponse = { id, name, response: { output: "21 degrees" } };
    const answer = await chat.sendMessage({ message: [{ functionResponse }] });
    return { calls: calls.length, name, args, content: answer.text };
  },

  async count() {
    return await models.countTokens({ model, contents: "Say hello" });
  },

  async models() {
    const found = [];
    for await (const one of await models.list()) found.push(one.name);
    return { found };
  },

  async error() {
    try {
      for await (const chunk of await models.generateContentStream(asked)) chunk.text;
    } catch (error) {
      return { name: error.name, status: error.status, message: error.message };
    }
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
