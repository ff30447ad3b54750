import solution
assert solution.$f("<all><other>no</other><$n>yes</$n></all>") == "yes"
