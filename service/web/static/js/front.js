// The pages with jobs on them: the front page, with its forms, and one job's own page.

import "./times.js";
import { useForms } from "./forms.js";
import { followAll, followNew } from "./jobs.js";
import { remember } from "./memory.js";

useForms((job) => {
  remember(job);
  followNew();
});
followAll();
