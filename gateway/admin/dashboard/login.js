const error = document.getElementById("error");

// Who comes by a link from elsewhere is sent here although logged in: such a request brings no cookie, this one does.
fetch("v1/session").then((answer) => answer.ok && location.replace("./"), () => {});

document.getElementById("form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  error.textContent = "";
  try {
    const answer = await fetch("login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: document.getElementById("token").value }),
    });
    if (answer.ok) location.assign("./");
    else error.textContent = (await answer.json()).error;
  } catch {
    error.textContent = "The gateway does not answer.";
  }
});
// Not before somebody listens: what the browser itself would do with the form is forbidden, and would leave a page that is dead.
document.getElementById("submit").disabled = false;
