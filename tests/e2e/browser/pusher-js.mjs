// The stock build has put this into the window.
export default window.Pusher;
