// The stock build has put its exports into the window.
export default window.Echo.default;
