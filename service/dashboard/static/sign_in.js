// Signs in by a link whose fragment has the token: no server and no log ever sees a fragment.

function signIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.getElementById("sign-in").requestSubmit();
}

addEventListener("hashchange", signIn); // the link, followed with this page open
signIn();
