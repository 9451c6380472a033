// SPDX-License-Identifier: Apache-2.0
// Answers that do not end, read with fetch so that they can carry the token in a header: the state
// as server-sent events, the pictures as parts of a multipart body. Both come back after a break.

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function keepReading(path, headers, signal, onBreak, read) {
  for (let pause = 500; !signal?.aborted; pause = Math.min(pause * 1.6, 8000)) {
    try {
      const answer = await fetch(path, { headers: headers(), cache: 'no-store', signal });
      if (answer.ok)
        await read(answer.body.getReader(), () => (pause = 500));
    } catch (error) {
      if (signal?.aborted)
        return;
    }
    onBreak?.();
    await wait(pause);
  }
}

export function watchEvents(path, headers, onState, onBreak) {
  return keepReading(path, headers, undefined, onBreak, async (reader, works) => {
    const decoder = new TextDecoder();
    let text = '';
    for (let part; !(part = await reader.read()).done;) {
      text += decoder.decode(part.value, { stream: true });
      const messages = text.split('\n\n');
      text = messages.pop();
      const newest = messages.pop();
      const data = newest?.split('\n').find((line) => line.startsWith('data: '));
      if (data) {
        works();
        onState(JSON.parse(data.slice(6)));
      }
    }
  });
}

// Bytes that come in pieces, taken out in other pieces.
class Bytes {
  constructor(reader) {
    this.reader = reader;
    this.held = new Uint8Array(0);
  }

  async more() {
    const { done, value } = await this.reader.read();
    if (done)
      throw new Error('the stream has ended');
    const joined = new Uint8Array(this.held.length + value.length);
    joined.set(this.held);
    joined.set(value, this.held.length);
    this.held = joined;
  }

  take(size) {
    const taken = this.held.subarray(0, size);
    this.held = this.held.subarray(size);
    return taken;
  }

  async head() {
    for (let from = 0;;) {
      for (let i = from; i + 3 < this.held.length; i++)
        if (this.held[i] === 13 && this.held[i + 1] === 10 && this.held[i + 2] === 13 && this.held[i + 3] === 10)
          return new TextDecoder().decode(this.take(i + 4));
      from = Math.max(this.held.length - 3, 0);
      await this.more();
    }
  }

  async exactly(size) {
    while (this.held.length < size)
      await this.more();
    return this.take(size);
  }
}

// onPicture(view, bytes) is awaited, so that a slow page reads slowly and the server sends it less.
export function watchPictures(path, headers, signal, onPicture) {
  return keepReading(path, headers, signal, null, async (reader, works) => {
    const bytes = new Bytes(reader);
    for (;;) {
      const head = await bytes.head();
      const size = Number(/^content-length: *(\d+)/im.exec(head)?.[1]);
      const view = /^x-view: *(\w+)/im.exec(head)?.[1];
      await onPicture(view, await bytes.exactly(size));
      works();
    }
  });
}
