const error = document.getElementById("error");

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
