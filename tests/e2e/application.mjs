// The application's half of what the scripts do: signing and publishing, with the stock server SDK of Node.
import Server from "pusher";

let server;

export function configure({ appId, key, secret, port, masterKey }) {
  const encryption = masterKey ? { encryptionMasterKeyBase64: masterKey } : {};
  server = new Server({ appId, key, secret, host: "127.0.0.1", port: String(port), useTLS: false, ...encryption });
}

// What an application's own endpoint would do, without the endpoint.
export const channelAuthorization = (member) => ({
  customHandler: ({ socketId, channelName }, callback) => {
    const of = channelName.startsWith("presence-") ? member : undefined;
    try {
      callback(null, server.authorizeChannel(socketId, channelName, of));
    } catch (error) {
      callback(error, null);
    }
  },
});

export const publish = async (channel, event, data) => (await server.trigger(channel, event, data)).status;
