// JSON lines: commands come on standard input, messages go to standard output.
import { createInterface } from "node:readline";

export const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

// Runs `commands[do]` for each command, one after the other. What one returns is its answer; undefined is none.
// The process ends with its standard input.
export async function obey(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...command } = JSON.parse(line);
    try {
      const value = await commands[name](command);
      if (value !== undefined) say({ type: "answer", to: name, value });
    } catch (error) {
      say({ type: "answer", to: name, error: String(error.stack ?? error) });
    }
  }
  process.exit(0);
}
