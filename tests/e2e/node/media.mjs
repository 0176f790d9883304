// The official Node client's pictures, sound and moderations. Usage: node media.mjs SCENARIO GATEWAY_URL ALIAS
// Prints what the scenario saw as one JSON object; the tests compare it.
import OpenAI, { toFile } from "openai";

const [scenario, gateway, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${gateway}/v1`, apiKey: "dummy", maxRetries: 0 });

// A second of silence: eight thousand samples of two bytes behind the head of a wav file.
function silence() {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(16036, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(8000, 24);
  head.writeUInt32LE(16000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write("data", 36);
  head.writeUInt32LE(16000, 40);
  return toFile(Buffer.concat([head, Buffer.alloc(16000)]), "speech.wav", { type: "audio/wav" });
}

const drawn = { model, prompt: "a cat", size: "1024x1024", quality: "low" };

const scenarios = {
  async picture() {
    const answer = await client.images.generate(drawn);
    return { pictures: answer.data.length, bytes: Buffer.from(answer.data[0].b64_json, "base64").length > 0 };
  },

  async streamed_picture() {
    const kinds = [];
    const stream = await client.images.generate({ ...drawn, stream: true, partial_images: 1 });
    for await (const event of stream) kinds.push(event.type);
    return { kinds };
  },

  async changed_picture() {
    const image = await toFile(Buffer.from("iVBORw0KGgo=", "base64"), "cat.png", { type: "image/png" });
    const answer = await client.images.edit({ ...drawn, image });
    return { pictures: answer.data.length };
  },

  async speech() {
    const answer = await client.audio.speech.create({ model, input: "Hello there", voice: "alloy" });
    return { type: answer.headers.get("content-type"), bytes: (await answer.arrayBuffer()).byteLength > 0 };
  },

  async transcript() {
    const answer = await client.audio.transcriptions.create({ model, file: await silence() });
    return { text: answer.text };
  },

  async translation() {
    const answer = await client.audio.translations.create({ model, file: await silence() });
    return { text: answer.text };
  },

  async moderation() {
    const answer = await client.moderations.create({ model, input: ["a kind word", "violence"] });
    return { flagged: answer.results.map((result) => result.flagged) };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
