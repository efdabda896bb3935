// In a browser, commands come through a function of the window that the driver calls, and messages go through one it has put there.
export const say = (message) => window.sayToTest(JSON.stringify(message));

// Runs `commands[do]` for each command, one after the other. What one returns is its answer; undefined is none.
export function obey(commands) {
  let last = Promise.resolve();
  const run = async (line) => {
    const { do: name, ...command } = JSON.parse(line);
    try {
      const value = await commands[name](command);
      if (value !== undefined) say({ type: "answer", to: name, value });
    } catch (error) {
      say({ type: "answer", to: name, error: String(error.stack ?? error) });
    }
  };
  window.command = (line) => {
    last = last.then(() => run(line));
  };
  say({ type: "ready" });
}
